"""Preprocessing in a graph against the data modules' own, which read files with Pillow."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.decoding import decode_image
from datamodules.images.input_spec import InputSpec
from modules.functional.images.preprocessing import Preprocessing, border_mean


def in_graph(spec: InputSpec, pixels: np.ndarray) -> np.ndarray:
    """(height, width, 3) uint8 to (C, H, W) levels."""
    preprocessing = Preprocessing(spec.image_shape, spec.filter, spec.fit, spec.ink is not None)
    images = torch.from_numpy(pixels.copy()).movedim(-1, 0).unsqueeze(0)  # (1, 3, height, width)
    inputs = preprocessing(images)
    assert inputs.dtype == torch.float32
    return (inputs[0] * 255).round().numpy().astype(np.uint8)


def from_file(spec: InputSpec, pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return decode_image(file, spec)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("ink", [None, "white on black"])
def test_inputs_are_those_that_a_file_gives(channels: int, fit: str, ink: str | None) -> None:
    generator = np.random.default_rng(0)
    sizes = [(1, 1), (1, 9), (2, 2), (9, 1), (40, 30), (30, 47), (28, 20), (100, 60)]
    for (height, width), brightness, size in itertools.product(sizes, (40, 200), ((28, 28), (28, 20))):
        spec = InputSpec((channels, *size), "lanczos", fit, ink)  # type: ignore[arg-type]
        pixels = generator.integers(max(0, brightness - 60), brightness + 55, (height, width, 3), dtype=np.uint8)
        np.testing.assert_array_equal(in_graph(spec, pixels), from_file(spec, pixels), f"{height}x{width}")


def test_each_image_of_a_batch_is_inverted_for_itself() -> None:
    preprocessing = Preprocessing((1, 4, 4), inverts_paper=True)
    paper, slate = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    assert preprocessing(torch.cat([paper, slate])).flatten(1).mean(1).tolist() == [0, 0]


def test_the_border_is_the_outermost_frame() -> None:
    levels = torch.arange(12, dtype=torch.float32).view(1, 1, 3, 4)  # all but 5 and 6
    assert border_mean(levels).item() == (sum(range(12)) - 5 - 6) / 10
