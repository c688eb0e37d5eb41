"""ImageFolder: which classes belong to which split, by fraction, by folder and by lists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Evaluation, ImageFolder
from datamodules.images.leaks import LeakError
from tests.datamodules.image_makers import picture, save_classes

SIZES = {f"class{c:02}": 4 + c % 3 for c in range(20)}


def folder(root: Path, **arguments) -> ImageFolder:
    """Tasks of two ways, decoded at the pictures' own size."""
    given: dict[str, Any] = {
        "n_way": 2,
        "k_shot": 1,
        "n_query": 2,
        "image_size": 12,
        "cache": str(root / "cache"),
    } | arguments
    return ImageFolder(root=str(root / "images"), evaluation=Evaluation(n_val_tasks=2, n_test_tasks=2), **given)


def set_up(data: ImageFolder) -> dict[str, set[str]]:
    """The names of the classes of each split."""
    data.prepare_data()
    data.setup("fit")
    assert data.bank is not None
    names = data.bank.class_names
    return {split: {names[c] for c in pool.class_id.tolist()} for split, pool in data.pools.items()}


def test_a_fraction_of_the_classes_goes_to_each_split(tmp_path: Path):
    save_classes(tmp_path / "images", SIZES)
    found = set_up(folder(tmp_path, val_fraction=0.25, test_fraction=0.15))
    assert {split: len(names) for split, names in found.items()} == {"train": 12, "val": 5, "test": 3}
    assert set.union(*found.values()) == set(SIZES)
    assert set_up(folder(tmp_path, val_fraction=0.25, test_fraction=0.15)) == found
    assert set_up(folder(tmp_path, val_fraction=0.25, test_fraction=0.15, split_seed=1)) != found


def test_a_class_more_moves_few_others(tmp_path: Path):
    """So that what was trained on is hardly ever tested on after a folder was added."""
    save_classes(tmp_path / "images", SIZES)
    before = set_up(folder(tmp_path))
    save_classes(tmp_path / "images", {"a_new_one": 4}, first=500)
    after = set_up(folder(tmp_path))
    assert sum(len(before[split] - after[split]) for split in before) <= 2


@pytest.mark.parametrize("there", [["train"], ["train", "val"], ["train", "test"]])
def test_split_folders_that_are_not_all_there_are_no_classes(tmp_path: Path, there: list[str]):
    save_classes(tmp_path / "images", {f"{split}/{c}": 4 for split in there for c in "ab"})
    with pytest.raises(ValueError, match=r"has train/.* but no .*data\.split to fraction"):
        set_up(folder(tmp_path))


def test_a_build_that_left_files_out_is_not_taken_for_a_strict_one(tmp_path: Path):
    save_classes(tmp_path / "images", SIZES)
    (tmp_path / "images" / "class00" / "000.png").write_text("not a picture")
    set_up(folder(tmp_path, strict=False))
    with pytest.raises(ValueError, match="1 file cannot be read"):
        set_up(folder(tmp_path, strict=True))


def test_episodes_show_the_files_of_their_classes(tmp_path: Path):
    save_classes(tmp_path / "images", SIZES)
    data = folder(tmp_path)
    set_up(data)
    assert data.bank is not None
    first = dict(zip(SIZES, np.cumsum([0, *SIZES.values()]), strict=False))
    episode = data.episode("train", torch.arange(5))
    for task in range(5):
        for image, label in zip(episode.query_x[task], episode.query_y[task], strict=True):
            name = data.bank.class_names[int(episode.task.classes[task, label])]
            numbers = range(first[name], first[name] + SIZES[name])
            pixels = [np.moveaxis(picture(number), -1, 0) for number in numbers]
            assert sum(np.array_equal((image.numpy() * 255).round(), p) for p in pixels) == 1


def test_folders_named_after_the_splits_are_the_splits(tmp_path: Path):
    save_classes(
        tmp_path / "images", {f"{split}/{split}{c}": 4 for split in ("train", "val", "test") for c in range(3)}
    )
    data = folder(tmp_path)
    assert set_up(data) == {split: {f"{split}{c}" for c in range(3)} for split in ("train", "val", "test")}
    assert data.protocol()["split"] == "folders"
    save_classes(tmp_path / "images", dict.fromkeys("abc", 4), first=500)
    by_fraction = folder(tmp_path, split="fraction", val_fraction=1 / 3, test_fraction=1 / 3, classes="top")
    assert set.union(*set_up(by_fraction).values()) == {"train", "val", "test", *"abc"}


def test_classes_in_two_split_folders_are_a_leak(tmp_path: Path):
    """As where a data set for ordinary classification was split by images."""
    save_classes(tmp_path / "images", {f"{split}/{name}": 4 for split in ("train", "val", "test") for name in "ab"})
    with pytest.raises(LeakError, match="train and val share 2 classes"):
        set_up(folder(tmp_path))


def write_csv(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("filename,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    return str(path)


def write_json(path: Path, rows: list[tuple[str, str]]) -> str:
    """CloserLook's way: label_names has the classes of all splits."""
    names = sorted(SIZES)
    content = {
        "label_names": names,
        "image_names": [name for name, _ in rows],
        "image_labels": [names.index(label) for _, label in rows],
    }
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(("write", "suffix"), [(write_csv, "csv"), (write_json, "json")])
@pytest.mark.parametrize("relative_to", ["root", "list", "nothing"])
def test_lists_name_the_images_of_each_split(tmp_path: Path, write, suffix: str, relative_to: str):
    images = save_classes(tmp_path / "images", SIZES)
    place = images if relative_to == "list" else tmp_path
    base = str(images) + "/" if relative_to == "nothing" else ""
    lists = {}
    for s, split in enumerate(("train", "val", "test")):
        rows = [(f"{base}{name}/{i:03}.png", name) for name in list(SIZES)[s::5] for i in range(3)]
        lists[f"{split}_list"] = write(place / f"{split}.{suffix}", rows)
    data = folder(tmp_path, **lists)
    found = set_up(data)
    assert found == {split: set(list(SIZES)[s::5]) for s, split in enumerate(("train", "val", "test"))}
    assert data.bank is not None
    assert set(data.bank.class_size.tolist()) == {3}
    assert data.protocol()["split"] == "lists"


WITH_ONE_GONE = "filename,label\n" + "".join(f"class0{c}/00{i}.png,{'ab'[c]}\n" for c in range(2) for i in range(3))
WITH_ONE_GONE += "gone.png,b\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,class\n", "does not begin with the line filename,label"),
        ("filename,label\n", "lists no image"),
        ("filename,label\n" + "x" * 200_000, "not a CSV file in UTF-8"),
        ("filename,label\na,b,c\n", "line 2, is not a file name and a label"),
        ("filename,label\nnowhere.png,a\n", r"the first image of .*, nowhere.png, is not in"),
        (WITH_ONE_GONE, "cannot read .*gone.png"),
    ],
)
def test_lists_that_say_nothing_are_refused(tmp_path: Path, content: str, message: str):
    save_classes(tmp_path / "images", SIZES)
    path = tmp_path / "list.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        set_up(folder(tmp_path, train_list=str(path), val_list=str(path), test_list=str(path)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", "does not hold the lists label_names, image_names, image_labels"),
        ('{"label_names": ["a"], "image_names": ["x"], "image_labels": []}', "1 image_names, but 0 image_labels"),
        ('{"label_names": ["a"], "image_names": ["x"], "image_labels": [1]}', "the label 1, but 1 label_names"),
    ],
)
def test_json_lists_that_say_nothing_are_refused(tmp_path: Path, content: str, message: str):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        set_up(folder(tmp_path, train_list=str(path), val_list=str(path), test_list=str(path)))


def test_drawings_come_out_white_on_black(tmp_path: Path):
    for c, name in enumerate(SIZES):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.full((12, 12), 240, np.uint8)
            pixels[5, 4:8] = i
            pixels[8, :8] = 12 * c
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    data = folder(tmp_path, drawings=True, channels=1)
    set_up(data)
    assert data.bank is not None
    assert (data.bank.images[:, 0, 5, 4:8] >= 253).all()
    assert (data.bank.images[:, 0, :5] == 15).all()
    assert (data.bank.images[::3, 0, 8, 0] == 255 - 12 * torch.arange(20)).all()
    assert data.input_spec()["ink"] == "white on black"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction = 0.0"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave classes for training"),
        ({"split": "lists"}, "train_list and val_list and test_list is not set"),
        ({"train_list": "a.csv"}, "val_list and test_list is not set"),
        ({"channels": 2}, "1 channel"),
        ({"image_size": 0}, "image_size"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        folder(tmp_path, **arguments)


def test_too_few_classes_are_refused(tmp_path: Path):
    save_classes(tmp_path / "images", {"a": 3, "b": 3})
    with pytest.raises(ValueError, match=r"holds 2 class folders.*predict --data SupportQuery"):
        set_up(folder(tmp_path))


def test_too_many_ways_are_refused_before_anything_is_decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_classes(tmp_path / "images", SIZES)
    with pytest.raises(ValueError, match=r"n_way = 6 is more than the val split has classes \(4\)"):
        set_up(folder(tmp_path, n_way=6))
    assert "reading images" not in capsys.readouterr().err


def test_images_are_decoded_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_classes(tmp_path / "images", SIZES)
    set_up(folder(tmp_path))
    assert "reading images" in capsys.readouterr().err
    set_up(folder(tmp_path))
    assert "reading images" not in capsys.readouterr().err
    Image.fromarray(picture(999)).save(tmp_path / "images" / "class00" / "000.png")
    set_up(folder(tmp_path))
    assert "reading images" in capsys.readouterr().err
