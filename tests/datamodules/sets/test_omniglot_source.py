"""Finding, reading, checking and downloading Omniglot, on a tiny copy."""

import io
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.sets.omniglot import omniglot
from datamodules.sets.omniglot.source import PARTS, decode
from tests.datamodules.tiny_omniglot import ALL, module, one_line, originals, png, write_folders, write_zips

pytestmark = pytest.mark.usefixtures("small_omniglot")


def test_folders_and_zips_hold_the_same_bank(folders, zips):
    one, other = module(folders, rotations="none").build_bank(), module(zips, rotations="none").build_bank()
    assert one.class_names == other.class_names == tuple(ALL)
    assert torch.equal(one.images, other.images)
    assert one.images.shape == (240, 1, 28, 28)
    assert one.class_size.tolist() == [20] * 12


def test_ink_is_white_and_every_drawing_is_where_it_belongs(folders):
    bank = module(folders, rotations="none", image_size=105).build_bank()
    for c, name in enumerate(ALL):
        for d in range(20):
            paper = np.asarray(Image.open(io.BytesIO(png(name, d + 1))))
            drawn = bank.images[bank.class_start[c] + d, 0].numpy()
            assert np.array_equal(drawn, np.where(paper, 0, 255))


def test_resizing_is_antialiased():
    small = decode(png(ALL[0], 1), "here", 28)
    assert small.shape == (28, 28)
    assert ((small > 20) & (small < 235)).sum() > 20  # greys: one-bit images would be resized without
    large = decode(png(ALL[0], 1), "here", 105)
    assert small.mean() == pytest.approx(large.mean(), rel=0.2)  # Lanczos overshoots; below 0 is cut


@pytest.mark.parametrize("asked", [Image.Resampling.LANCZOS, Image.Resampling.BILINEAR])
def test_nearest_is_what_pillow_makes_of_one_bit_by_any_filter(asked):
    paper = np.asarray(Image.open(io.BytesIO(png(ALL[0], 1))).resize((28, 28), asked))
    assert np.array_equal(decode(png(ALL[0], 1), "here", 28, "nearest"), np.where(paper, 0, 255))


def test_banks_of_both_filters_are_kept_apart(folders):
    sharp, grey = (module(folders, resize=resize, rotations="none") for resize in ("nearest", "lanczos"))
    assert sharp.build_bank().images.unique().tolist() == [0, 255]
    assert len(grey.build_bank().images.unique()) > 20
    assert sharp.build_bank().images.unique().tolist() == [0, 255]  # now from the cache
    assert (sharp.input_spec()["filter"], grey.input_spec()["filter"]) == ("nearest", "lanczos")


@pytest.mark.parametrize("under", ["", "omniglot", "omniglot-py"])
def test_the_usual_places_are_found(tmp_path, under):
    write_zips(tmp_path / "root" / under)
    assert len(module(tmp_path / "root", rotations="none").build_bank().class_names) == 12


def test_a_folder_and_a_zip_together_will_do(tmp_path):
    write_folders(tmp_path / "root", PARTS[:1])
    write_zips(tmp_path / "root", PARTS[1:])
    assert len(module(tmp_path / "root", rotations="none").build_bank().class_names) == 12


def test_what_file_managers_leave_behind_is_no_drawing(folders):
    stray = folders / "omniglot" / "images_background" / "Amber" / "character01"
    (stray / "._0000_01.png").write_bytes(b"")
    (stray / ".DS_Store").write_bytes(b"")
    (folders / "omniglot" / "images_background" / "Amber" / "notes.txt").write_text("")
    assert module(folders, rotations="none").build_bank().class_size.tolist() == [20] * 12


def test_the_second_time_comes_from_the_cache(folders, monkeypatch):
    first = module(folders).build_bank()
    monkeypatch.setattr(omniglot, "read_bank", lambda *_: pytest.fail("read again"))
    second = module(folders).build_bank()
    assert torch.equal(first.images, second.images)
    assert len(list(folders.glob("omniglot-28-*.bank"))) == 1


def test_a_changed_drawing_is_read_again(folders):
    before = module(folders, rotations="none").build_bank().images.clone()
    file = folders / "omniglot" / "images_background" / ALL[0] / "0000_01.png"
    file.write_bytes(png(ALL[1], 1))
    os.utime(file, ns=(1, 1))
    changed = (module(folders, rotations="none").build_bank().images != before).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == [0]


def test_a_changed_zip_is_read_again(zips):
    module(zips, rotations="none").build_bank()
    first = next(iter(originals()[PARTS[0]]))
    write_zips(zips, PARTS[:1], {first: png(ALL[1], 1)})
    bank = module(zips, rotations="none").build_bank()
    assert np.array_equal(bank.images[0, 0].numpy(), decode(png(ALL[1], 1), "", 28))


def test_a_missing_drawing_is_named(folders):
    (folders / "omniglot" / "images_evaluation" / "Dun" / "character02" / "0008_07.png").unlink()
    with pytest.raises(ValueError, match="not whole") as error:
        module(folders).build_bank()
    assert "Dun/character02 has 19 drawings" in one_line(error)
    assert "12 characters of 20 drawings" in one_line(error)


def test_missing_and_foreign_characters_are_named(folders):
    inside = folders / "omniglot" / "images_background"
    shutil.rmtree(inside / "Blue")
    shutil.copytree(inside / "Cyan", inside / "Teal")
    with pytest.raises(ValueError, match="not whole") as error:
        module(folders).build_bank()
    message = one_line(error)
    assert "Blue/character01 has 0 drawings" in message
    assert "Teal/character01 is not of Omniglot, and 1 more" in message


def test_a_drawing_too_many_is_named(folders):
    extra = folders / "omniglot" / "images_background" / ALL[0] / "0000_21.png"
    extra.write_bytes(png(ALL[0], 20))
    with pytest.raises(ValueError, match="Amber/character01 has 21 drawings"):
        module(folders).build_bank()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (png("Amber/character01", 1)[:60], "broken or cut short"),
        (png("Amber/character01", 1)[:-30], "broken or cut short"),
        (b"", "broken or cut short"),
        (b"<html>not found</html>", "broken or cut short"),
        (io.BytesIO(), "28x28 pixels instead of 105x105"),
    ],
    ids=["cut in the header", "cut in the image", "empty", "a web page", "resized before"],
)
def test_a_broken_drawing_is_named(folders, content, said):
    if isinstance(content, io.BytesIO):
        Image.new("1", (28, 28)).save(content, "png")
        content = content.getvalue()
    file = folders / "omniglot" / "images_background" / "Amber" / "character02" / "0001_05.png"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        module(folders).build_bank()
    assert str(file) in one_line(error)
    assert not list(folders.glob("*.bank"))


def test_a_zip_cut_short_is_named(zips):
    file = zips / "images_evaluation.zip"
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ValueError, match="fetch it again") as error:
        module(zips).build_bank()
    assert str(file) in one_line(error)


def test_a_damaged_member_of_a_zip_is_named(zips):
    file = zips / "images_evaluation.zip"
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        member = archive.infolist()[5]
    start = member.header_offset + 30 + len(member.filename)
    data[start : start + 20] = bytes(20)
    file.write_bytes(data)
    with pytest.raises(ValueError, match="damaged") as error:
        module(zips).build_bank()
    assert member.filename in one_line(error)


# ---- download


def test_what_is_missing_is_downloaded_once(tmp_path, server):
    root = tmp_path / "new" / "data"
    assert len(module(root, rotations="none", download=True).build_bank().class_names) == 12
    names = sorted(path.name for path in root.iterdir() if path.suffix != ".bank")
    assert names == ["images_background.zip", "images_evaluation.zip"]
    shutil.rmtree(server)
    assert len(module(root, rotations="none", download=True).build_bank().class_names) == 12


def test_only_the_missing_part_is_downloaded_beside_the_other(tmp_path, server):
    write_folders(tmp_path / "data" / "omniglot", PARTS[:1])
    (server / "images_background.zip").unlink()
    module(tmp_path / "data", download=True).build_bank()
    assert (tmp_path / "data" / "omniglot" / "images_evaluation.zip").is_file()


def test_a_download_with_another_sum_is_not_kept(tmp_path, server):
    with (server / "images_background.zip").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="MD5 sum") as error:
        module(tmp_path / "data", download=True).build_bank()
    one_line(error)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("allowed", [True, False])
def test_without_network_the_message_says_what_to_put_where(tmp_path, server, allowed):
    shutil.rmtree(server)
    with pytest.raises(ValueError, match="Omniglot is not in") as error:
        module(tmp_path / "data", download=allowed).build_bank()
    message = one_line(error)
    for part in PARTS:
        assert f"{omniglot.ADDRESS}/{part}.zip" in message
    assert f"into {tmp_path / 'data'}" in message
    assert ("download failed" if allowed else "data.download is false") in message
