"""Images made those that a checkpoint's learner takes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import CIFARFS, Glyphs, ImageFolder, Omniglot
from datamodules.images.conversion import brought_to
from tests.datamodules.image_makers import picture


def test_each_data_set_reads_what_it_can_and_converts_the_rest(folders: Path, tmp_path: Path):
    omniglot = Omniglot(root=str(folders), n_way=2, download=False)
    omniglot.adopt({"image_shape": [3, 20, 20]})
    omniglot.prepare_data()
    omniglot.setup("test")
    episode = omniglot.episode("test", torch.arange(2))
    assert omniglot.bank is not None
    assert omniglot.bank.images.shape[1:] == (1, 20, 20)
    assert tuple(episode.query_x.shape[2:]) == (3, 20, 20)
    assert omniglot.input_shape == (3, 20, 20)
    assert torch.equal(episode.query_x[:, :, 0], episode.query_x[:, :, 2])
    folder = ImageFolder(root=str(tmp_path), cache=str(tmp_path))
    folder.adopt({"image_shape": [1, 28, 28]})
    assert (folder.input_shape, folder.spec.image_shape) == ((1, 28, 28), (1, 28, 28))
    for data, own in ((Glyphs(), (1, 28, 28)), (CIFARFS(), (3, 32, 32))):
        data.adopt({"image_shape": [3, 84, 84]})
        assert data.normalise(torch.zeros(2, 5, *own, dtype=torch.uint8)).shape == (2, 5, 3, 84, 84)
        assert data.input_shape == (3, 84, 84)


def test_what_fits_is_not_touched(capsys: pytest.CaptureFixture[str]):
    data = Glyphs()
    data.adopt(data.input_spec())
    data.adopt({})
    data.adopt({"input_shape": [1]})
    assert capsys.readouterr().err == ""
    assert "images_converted_from" not in data.protocol()


@pytest.mark.parametrize("size", [8, 30])
@pytest.mark.parametrize("channels", [1, 3])
def test_conversion_is_that_of_pillow(size: int, channels: int):
    pixels = picture(3, height=16, width=16)
    expected = Image.fromarray(pixels).convert("L" if channels == 1 else "RGB").resize((size, size), 2)
    images = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    found = brought_to(images.expand(2, 1, 3, 16, 16), (channels, size, size))
    assert found.shape == (2, 1, channels, size, size)
    target = torch.from_numpy(np.array(expected).reshape(size, size, channels)).permute(2, 0, 1) / 255
    torch.testing.assert_close(found[1, 0], target, atol=1.6 / 255, rtol=0)
