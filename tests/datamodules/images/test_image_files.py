"""Folders of image files: which class a file belongs to, and what happens to files that are no images."""

from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder as Torchvision

from datamodules.images import image_files
from datamodules.images.image_files import class_folders, image_paths, read_bank
from datamodules.images.input_spec import InputSpec
from tests.datamodules.image_makers import picture, save_classes

SPEC = InputSpec((3, 12, 12))


def test_classes_are_those_of_torchvisions_image_folder(tmp_path: Path):
    save_classes(tmp_path, {"dog": 3, "cat/indoors": 2, "cat/outdoors/night": 2, "Ape": 1})
    (tmp_path / "dog" / "notes.txt").write_text("not an image by its name")
    reference = Torchvision(str(tmp_path))
    ours = [(str(path), entry.name) for entry in class_folders(tmp_path, "top") for path in entry.paths]
    assert sorted(ours) == sorted((path, reference.classes[label]) for path, label in reference.samples)
    assert [entry.name for entry in class_folders(tmp_path, "top")] == reference.classes


def test_links_are_followed_and_hidden_files_are_not(tmp_path: Path):
    save_classes(tmp_path / "elsewhere", {"dog": 2})
    root = save_classes(tmp_path / "root", {"cat": 2})
    (root / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    save_classes(root, {".git": 1, "__MACOSX": 1})
    (root / "cat" / "._000.png").write_bytes(b"a file manager's")
    assert [(entry.name, len(entry.paths)) for entry in class_folders(root)] == [("cat", 2), ("dog", 2)]


def test_links_that_lead_round_end(tmp_path: Path):
    save_classes(tmp_path, {"a/deep": 2, "b": 1})
    for name in ("x", "y"):
        (tmp_path / "a" / "deep" / name).symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert [(entry.name, len(entry.paths)) for entry in class_folders(tmp_path)] == [("a", 2), ("b", 1)]


def test_files_passed_over_for_their_names_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_classes(tmp_path, {"a": 1})
    for name in ("1.HEIC", "2.heic", "notes.txt", "noending", ".DS_Store", "clip.mpg", "page.eps"):
        (tmp_path / "a" / name).write_bytes(b"?")
    assert len(class_folders(tmp_path)[0].paths) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"{tmp_path}: passed over 6 files that cannot be read here: 2 .heic, ")
    assert "1 without an ending" in told


def test_endings_count_in_any_case(tmp_path: Path):
    save_classes(tmp_path, {"a": 1}, ".JPG")
    save_classes(tmp_path, {"a": 1}, ".TIFF")
    assert [path.name for path in image_paths(tmp_path)] == ["000.JPG", "000.TIFF"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "nowhere", "there is no folder .*nowhere"),
        (lambda root: root, "holds no folders"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path, make, message: str):
    with pytest.raises(ValueError, match=message):
        class_folders(make(tmp_path))


def test_loose_files_are_pointed_out(tmp_path: Path):
    save_classes(tmp_path, {".": 2})
    with pytest.raises(ValueError, match=r"only loose files.*folder of its own"):
        class_folders(tmp_path)


def test_a_bank_holds_every_image_under_its_class(tmp_path: Path):
    bank = read_bank(class_folders(save_classes(tmp_path, {"a": 3, "b": 40, "c": 1})), SPEC, "test", strict=True)[0]
    assert bank.class_names == ("a", "b", "c")
    assert bank.class_size.tolist() == [3, 40, 1]
    for number in range(44):
        np.testing.assert_array_equal(bank.images[number].numpy(), np.moveaxis(picture(number), -1, 0))


@pytest.fixture
def with_two_broken(tmp_path: Path) -> Path:
    save_classes(tmp_path, {"a": 3, "b": 4})
    (tmp_path / "a" / "001.png").write_text("not a picture")
    (tmp_path / "b" / "000.png").write_bytes(b"")
    return tmp_path


def test_broken_files_stop_a_strict_build_after_all_were_looked_at(with_two_broken: Path):
    with pytest.raises(ValueError, match="2 files cannot be read") as refused:
        read_bank(class_folders(with_two_broken), SPEC, "test", strict=True)[0]
    assert "a/001.png (no image" in str(refused.value)
    assert "b/000.png" in str(refused.value)
    assert "data.strict" in str(refused.value)


def test_broken_files_are_left_out_and_named_where_not_strict(
    with_two_broken: Path, capsys: pytest.CaptureFixture[str]
):
    bank, kept = read_bank(class_folders(with_two_broken), SPEC, "test", strict=False)
    assert bank.class_size.tolist() == [2, 3]
    assert [[path.name for path in entry.paths] for entry in kept] == [
        ["000.png", "002.png"],
        ["001.png", "002.png", "003.png"],
    ]
    for position, number in enumerate([0, 2, 4, 5, 6]):
        np.testing.assert_array_equal(bank.images[position].numpy(), np.moveaxis(picture(number), -1, 0))
    told = capsys.readouterr().err
    assert told.count("left out: ") == 2
    assert told.rstrip().endswith("2 files left out, listed above")


def test_a_class_without_a_readable_image_is_refused(tmp_path: Path):
    save_classes(tmp_path, {"a": 2, "b": 1})
    (tmp_path / "b" / "000.png").write_text("not a picture")
    with pytest.raises(ValueError, match="no image of the class 'b'"):
        read_bank(class_folders(tmp_path), SPEC, "test", strict=False)[0]


def test_a_bank_too_large_for_memory_is_gathered_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_files, "IN_MEMORY", 100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    save_classes(tmp_path / "images", {"a": 3, "b": 2})
    (tmp_path / "images" / "a" / "000.png").write_text("not a picture")
    bank = read_bank(class_folders(tmp_path / "images"), SPEC, "test", strict=False)[0]
    np.testing.assert_array_equal(bank.images[0].numpy(), np.moveaxis(picture(1), -1, 0))
    np.testing.assert_array_equal(bank.images[3].numpy(), np.moveaxis(picture(4), -1, 0))
    assert list((tmp_path / "cache" / "quickstudy").iterdir()) == []
