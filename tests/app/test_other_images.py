"""A checkpoint on images of other channels and another size, and a fit on images that its network does not take."""

import json
import re
import shlex
from pathlib import Path

import pytest

from app.command_line.arguments import DEFAULT_CONFIG
from tests.datamodules.image_makers import save_classes


@pytest.fixture
def images(tmp_path: Path) -> tuple[str, ...]:
    """Colour pictures of 12 classes, and what names them."""
    save_classes(tmp_path / "images", {f"class{number:02}": 4 for number in range(12)})
    root = ("--data.root", str(tmp_path / "images"), "--data.cache", str(tmp_path))
    return ("--data=ImageFolder", *root, "--data.n_way=2", "--data.n_query=1")


NETWORK = ("--model=ProtoNet", "--model.backbone=Conv4", "--model.backbone.filters=4")


def test_a_colour_model_is_tested_on_grey_images_of_another_size(run, tiny, images):
    colour = ("--data.image_size=32", "--model.backbone.in_channels=3", "--model.backbone.image_size=32")
    ended = run("fit", *NETWORK, *images, *colour, *tiny, "--trainer.logger=false")
    assert ended.code == 0, ended.err
    checkpoint = next(Path("runs").glob("*/0/checkpoints/last.ckpt"))
    ended = run("test", "--ckpt_path", str(checkpoint), "--data", "Glyphs", "--data.n_way=2", "--data.n_query=1")
    assert ended.code == 0, ended.err
    assert "Glyphs's images are converted from (channels, height, width) = (1, 28, 28) to (3, 32, 32)" in ended.err
    results = json.loads(next(Path("runs").glob("*/test_0/results.json")).read_text())
    assert results["protocol"]["images_converted_from"] == "1x28x28"


def test_a_grey_model_is_tested_on_colour_images(run, tiny, images):
    assert run("fit", *tiny, "--trainer.logger=false").code == 0
    ended = run("test", "--ckpt_path", "last", *images, "--data.channels=3", "--data.image_size=84")
    assert ended.code == 0, ended.err
    assert "ImageFolder's images are converted from (channels, height, width) = (3, 84, 84) to (1, 28, 28)" in ended.err


def test_the_advice_of_a_fit_can_be_followed_before_anything_is_read(run, tiny, images):
    config = f"--config={DEFAULT_CONFIG}"  # without a file the network fits the images
    ended = run("fit", config, *NETWORK, *images, *tiny, "--trainer.logger=false")
    assert ended.code == 1
    (line,) = ended.err.splitlines()  # nothing was read
    offers = re.findall(r"set (--.*?)(?:, or|\. |$)", line.partition("(QUICK")[0].strip())
    assert len(offers) == 2, line
    assert offers[1].rstrip(".") == "--data.channels 1 --data.image_size 28"
    for offer in offers:
        offered = shlex.split(offer.rstrip("."))
        followed = run("fit", config, *NETWORK, *images, *tiny, "--trainer.logger=false", *offered)
        assert followed.code == 0, followed.err
