"""What can happen to the sources under a cached bank: they disappear or change, and clocks are wrong."""

import os
import shutil

import pytest
import torch

from datamodules.sets.omniglot import omniglot
from datamodules.sets.omniglot.source import PARTS, find_parts
from tests.datamodules.tiny_omniglot import ALL, module, one_line, png, write_zips

FAR_OFF = [0, 4_000_000_000]  # 1970 and 2096


def test_sources_that_disappear_are_missed_although_the_bank_is_cached(folders):
    module(folders).build_bank()
    drawing = folders / "omniglot" / "images_background" / ALL[0] / "0000_01.png"
    drawing.unlink()
    with pytest.raises(ValueError, match="Amber/character01 has 19 drawings") as error:
        module(folders).build_bank()
    one_line(error)
    shutil.rmtree(folders / "omniglot" / "images_evaluation")
    with pytest.raises(ValueError, match="Omniglot is not in") as error:
        module(folders).build_bank()
    one_line(error)


def test_a_zip_that_disappears_is_missed_although_the_bank_is_cached(zips):
    module(zips).build_bank()
    (zips / "images_evaluation.zip").unlink()
    with pytest.raises(ValueError, match=r"Omniglot is not in .*images_evaluation\.zip"):
        module(zips).build_bank()


@pytest.mark.parametrize("zipped", [False, True])
def test_a_source_that_disappears_while_it_is_read_is_named(tmp_path, folders, zipped):
    if zipped:
        write_zips(tmp_path / "zipped")
    part = find_parts(tmp_path / "zipped" if zipped else folders)[PARTS[0]]
    drawings = part.drawings()
    path = part.path if zipped else part.path / drawings[3].path
    path.unlink()
    with pytest.raises(ValueError, match="fetch it again" if zipped else "make it readable") as error:
        list(part.read(drawings))
    assert str(path) in one_line(error)


def test_a_drawing_of_the_same_size_is_read_again(folders):
    """Only the time tells."""
    file, other = (folders / "omniglot" / "images_background" / ALL[0] / f"0000_0{i}.png" for i in (1, 2))
    data = file.read_bytes().ljust(len(other.read_bytes()), b"\0")  # what follows a PNG's end is ignored
    file.write_bytes(data)
    before = module(folders, rotations="none").build_bank().images.clone()
    changed = png(ALL[3], 9).ljust(len(data), b"\0")
    assert len(changed) == len(data), "choose another drawing"
    file.write_bytes(changed)
    after = module(folders, rotations="none").build_bank().images
    assert (after != before).flatten(1).any(1).nonzero().flatten().tolist() == [0]


@pytest.mark.parametrize("sources", FAR_OFF)
@pytest.mark.parametrize("cached", FAR_OFF)
def test_only_equality_of_times_counts(folders, monkeypatch, sources, cached):
    for path in folders.rglob("*"):
        os.utime(path, (sources, sources))
    first = module(folders).build_bank()
    for path in (*folders.glob("*.bank"), *folders.glob("*.bank/*")):
        os.utime(path, (cached, cached))
    monkeypatch.setattr(omniglot, "read_bank", lambda *_: pytest.fail("read again"))
    assert torch.equal(module(folders).build_bank().images, first.images)
