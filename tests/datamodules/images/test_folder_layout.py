"""Folders of folders: what is not clear is refused with the options that make it clear."""

import os
from pathlib import Path
from typing import Any

import pytest

from datamodules import Evaluation, ImageFolder, SupportQuery
from datamodules.images.image_files import class_folders
from datamodules.images.input_spec import InputSpec
from tests.datamodules.image_makers import save_classes

ALPHABETS = {f"{alphabet}/character{number}": 3 for alphabet in ("greek", "latin", "thai") for number in range(3)}
SPEC = InputSpec((3, 12, 12)).as_dict()


def test_alphabets_of_characters_are_asked_about_and_both_answers_work(tmp_path: Path):
    save_classes(tmp_path, ALPHABETS)
    with pytest.raises(ValueError, match="holds folders of folders") as refused:
        class_folders(tmp_path)
    line = str(refused.value)
    assert "\n" not in line
    assert "data.classes to deepest for the 9 folders that hold images ('greek/character0', 'greek/character1'," in line
    assert "or to top for the 3 folders above them, each with all images in it ('greek', 'latin', 'thai')" in line
    found = {which: {c.name: len(c.paths) for c in class_folders(tmp_path, which)} for which in ("top", "deepest")}
    assert found == {"top": dict.fromkeys(("greek", "latin", "thai"), 9), "deepest": ALPHABETS}


@pytest.mark.parametrize("inner", ["", "/images"])
def test_folders_that_part_the_images_alike_are_clear(tmp_path: Path, inner: str):
    save_classes(tmp_path, {f"{name}{inner}": 2 for name in ("ant", "bee")})
    assert [(entry.name, len(entry.paths)) for entry in class_folders(tmp_path)] == [("ant", 2), ("bee", 2)]


def test_images_above_and_below_are_asked_about(tmp_path: Path):
    save_classes(tmp_path, {"ant": 2, "ant/young": 1, "bee": 2})
    with pytest.raises(ValueError, match=r"deepest for the 3 folders that hold images \('ant', 'ant/young', 'bee'\)"):
        class_folders(tmp_path)


def test_one_folder_around_all_is_named(tmp_path: Path):
    save_classes(tmp_path, {f"images/{name}": 2 for name in "abc"})
    with pytest.raises(ValueError, match=r"or give .*/images, which is all that .* holds, in its place"):
        class_folders(tmp_path)


def test_images_beside_the_classes_are_not_lost_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_classes(tmp_path, {".": 2, "ant": 1})
    class_folders(tmp_path)
    assert "2 images beside the folders of the classes, which belong to no class" in capsys.readouterr().err


def image_folder(root: Path, **arguments) -> ImageFolder:
    evaluation = Evaluation(n_val_tasks=2, n_test_tasks=2)
    shares = {"val_fraction": 0.3, "test_fraction": 0.3}
    sizes: dict[str, Any] = {"n_way": 2, "n_query": 1, "image_size": 12, "cache": str(root / "cache"), **shares}
    return ImageFolder(root=str(root / "images"), evaluation=evaluation, **(sizes | arguments))


def test_the_deepest_folders_are_split_and_stated(tmp_path: Path):
    save_classes(tmp_path / "images", ALPHABETS)
    with pytest.raises(ValueError, match=r"images holds folders of folders"):
        image_folder(tmp_path).prepare_data()
    data = image_folder(tmp_path, classes="deepest")
    data.prepare_data()
    data.setup("fit")
    assert data.bank is not None
    assert set(data.bank.class_names) == set(ALPHABETS)
    assert data.protocol()["classes"] == "deepest"


def test_a_split_folder_is_asked_about_too(tmp_path: Path):
    save_classes(
        tmp_path / "images", {f"{split}/{split}{name}": 3 for split in ("train", "val", "test") for name in "ab"}
    )
    save_classes(tmp_path / "images" / "val", {"vala/more": 1})
    with pytest.raises(ValueError, match=r"images/val holds folders of folders"):
        image_folder(tmp_path).prepare_data()


@pytest.mark.parametrize("names", [("Train", "Val", "Test"), ("training", "validation", "testing"), ("val", "test")])
def test_folders_that_are_called_like_splits_are_no_classes(tmp_path: Path, names: tuple[str, ...]):
    save_classes(tmp_path / "images", {f"{split}/{split}{name}": 3 for split in names for name in "ab"})
    with pytest.raises(ValueError, match=r"where these are splits, .* name them train, val and test"):
        image_folder(tmp_path).prepare_data()


def task(root: Path, **arguments) -> SupportQuery:
    data = SupportQuery(support=str(root / "support"), query=str(root / "query"), **arguments)
    data.adopt(SPEC)
    data.setup("predict")
    return data


def test_a_support_of_splits_is_refused_with_the_folder_to_give(tmp_path: Path):
    save_classes(tmp_path / "support", {f"{split}/{name}": 2 for split in ("train", "val", "test") for name in "ab"})
    save_classes(tmp_path / "query", {"a": 1})
    with pytest.raises(ValueError, match=r"where these are splits, give one of them, as .*support/test, in its place"):
        task(tmp_path)


def test_queries_belong_to_the_deepest_classes_by_their_whole_path(tmp_path: Path):
    save_classes(tmp_path / "support", {"greek/01": 1, "latin/01": 1, "latin/02": 1})
    save_classes(tmp_path / "query", {"greek/01": 1, "new/latin/02": 1, "01": 1, "latin": 1})
    with pytest.raises(ValueError, match="support holds folders of folders"):
        task(tmp_path)
    data = task(tmp_path, classes="deepest")
    assert data.class_names == ("greek/01", "latin/01", "latin/02")
    truth = {os.path.relpath(file, tmp_path / "query"): data.label_of(file) for file in data.files}
    assert truth == {"greek/01/000.png": 0, "new/latin/02/000.png": 2, "01/000.png": -1, "latin/000.png": -1}


def test_query_folders_that_are_taken_for_one_class_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_classes(tmp_path / "support", {"01": 1, "02": 1})
    save_classes(tmp_path / "query", {"greek/01": 1, "latin/01": 1, "latin/02": 1})
    task(tmp_path)
    told = capsys.readouterr().err
    assert "query images in 2 folders are scored as '01': greek/01, latin/01" in told
    assert "'02'" not in told


OMNIGLOT = Path(os.environ.get("QUICKSTUDY_DATA", "nowhere")) / "omniglot" / "images_background"


@pytest.mark.skipif(not OMNIGLOT.is_dir(), reason="needs Omniglot in QUICKSTUDY_DATA")
def test_omniglots_characters_are_the_deepest_folders():
    with pytest.raises(ValueError, match=r"deepest for the 964 folders .* or to top for the 30 folders"):
        class_folders(OMNIGLOT)
    classes = class_folders(OMNIGLOT, "deepest")
    assert {len(entry.paths) for entry in classes} == {20}
    assert classes[0].name == "Alphabet_of_the_Magi/character01"
