"""Classes of too few images: all are named before anything is decoded, or left out and named."""

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules import CIFARFS, Evaluation, Glyphs, ImageFolder, Omniglot, SupportQuery
from datamodules.images.class_sizes import images_needed, refusal_of_small_classes
from datamodules.images.input_spec import InputSpec
from datamodules.tasks.sampling import EpisodeShape
from tests.datamodules.image_makers import save_classes

SPLITS = {f"{split}/{split}{name}": 4 for split in ("train", "val", "test") for name in "abcd"}
SMALL = {"train/train_one": 1, "train/train_none": 0, "val/val_two": 2, "test/test_one": 1}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    save_classes(tmp_path / "images", SPLITS | SMALL)
    return tmp_path


def folder(root: Path, **arguments) -> ImageFolder:
    given: dict[str, Any] = {
        "n_way": 2,
        "k_shot": 1,
        "n_query": 2,
        "image_size": 12,
        "cache": str(root / "cache"),
    } | arguments
    evaluation = given.pop("evaluation", Evaluation(n_val_tasks=2, n_test_tasks=2))
    return ImageFolder(root=str(root / "images"), evaluation=evaluation, **given)


def set_up(data: ImageFolder, stage: str = "fit") -> dict[str, set[str]]:
    data.stage = stage
    data.prepare_data()
    data.setup(stage)
    assert data.bank is not None
    names = data.bank.class_names
    return {split: {names[c] for c in pool.class_id.tolist()} for split, pool in data.pools.items()}


def test_all_of_all_splits_are_named_before_anything_is_read(images: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match="of the train split") as refused:
        set_up(folder(images))
    line = str(refused.value)
    assert "\n" not in line
    assert (
        "2 of the 6 classes of the train split have too few images to draw from: 'train_none' (0), 'train_one' (1)"
        in (line)
    )
    assert "class 'val_two' of the val split has 2 images" in line
    assert "class 'test_one' of the test split has 1 images" in line
    assert "a task needs 3 (k_shot + n_query = 1 + 2 = 3)" in line
    assert "leave these classes out by data.too_few leave_out" in line
    assert "reading images" not in capsys.readouterr().err


def test_a_test_asks_nothing_of_the_classes_of_training(images: Path):
    (images / "images" / "train" / "train_none").rmdir()
    evaluation = Evaluation(n_query=1, k_shot=1, n_val_tasks=2, n_test_tasks=2)
    with pytest.raises(ValueError, match="class 'test_one'") as refused:
        set_up(folder(images, evaluation=evaluation), "test")
    assert "train" not in str(refused.value)


def test_they_are_left_out_and_named_and_stated(images: Path, capsys: pytest.CaptureFixture[str]):
    data = folder(images, too_few="leave_out")
    found = set_up(data)
    assert found == {split: {f"{split}{name}" for name in "abcd"} for split in ("train", "val", "test")}
    told = capsys.readouterr().err
    assert "left out of the train split, with fewer images than the 3 of a task" in told
    assert "'train_none' (0), 'train_one' (1)" in told
    assert "'val_two' (2)" in told
    assert data.protocol()["classes_left_out"] == "train 2, val 1, test 1"


def test_what_is_left_out_is_part_of_the_caches_key(images: Path):
    (images / "images" / "train" / "train_none").rmdir()
    small = folder(images, too_few="leave_out", n_query=1)
    large = folder(images, too_few="leave_out", n_query=2)
    assert "val_two" in set_up(small)["val"]
    assert "val_two" not in set_up(large)["val"]
    assert small.bank is not None
    assert large.bank is not None
    assert small.bank.cached != large.bank.cached


def test_too_few_classes_that_are_left_are_one_line(images: Path):
    save_classes(images / "images" / "test", {f"test_small{number}": 1 for number in range(3)})
    (images / "images" / "test" / "testa").rename(images / "elsewhere")
    message = r"n_way = 4 is more than the test split without the 4 left out has classes \(3\): lower n_way, or add"
    with pytest.raises(ValueError, match=message):
        set_up(folder(images, too_few="leave_out", n_way=4))


def test_a_class_left_out_moves_no_other(tmp_path: Path):
    sizes = {f"class{number:02}": 4 for number in range(20)}
    save_classes(tmp_path / "images", sizes)
    before = set_up(folder(tmp_path))
    for number in (3, 8):
        for file in sorted((tmp_path / "images" / f"class{number:02}").iterdir())[1:]:
            file.unlink()
    after = set_up(folder(tmp_path, too_few="leave_out"))
    assert {s: names - {"class03", "class08"} for s, names in before.items()} == after


def test_a_class_that_lost_images_in_reading_is_left_out_too(images: Path, capsys: pytest.CaptureFixture[str]):
    for number in (0, 1):
        (images / "images" / "val" / "vala" / f"00{number}.png").write_text("not a picture")
    data = folder(images, too_few="leave_out", strict=False)
    assert set_up(data)["val"] == {"valb", "valc", "vald"}
    assert "'vala' (2)" in capsys.readouterr().err
    assert data.protocol()["classes_left_out"] == "train 2, val 2, test 1"


def test_listed_classes_are_counted_too(tmp_path: Path):
    sizes = {"train": {"a": 4, "b": 4}, "val": {"c": 4, "d": 4}, "test": {"e": 4, "f": 1}}
    save_classes(tmp_path / "images", {name: count for classes in sizes.values() for name, count in classes.items()})
    lists = {}
    for split, classes in sizes.items():
        path = tmp_path / f"{split}.json"
        files = [f"images/{name}/{i:03}.png" for name, count in classes.items() for i in range(count)]
        labels = [label for label, count in enumerate(classes.values()) for _ in range(count)]
        path.write_text(json.dumps({"label_names": [*classes], "image_names": files, "image_labels": labels}))
        lists[f"{split}_list"] = str(path)
    with pytest.raises(ValueError, match="class 'f' of the test split has 1 images"):
        set_up(folder(tmp_path, **lists))


def support(root: Path, **arguments) -> SupportQuery:
    data = SupportQuery(support=str(root), **arguments)
    data.adopt(InputSpec((3, 12, 12)).as_dict())
    data.setup("predict")
    return data


def test_support_classes_without_an_image_are_all_named_or_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_classes(tmp_path, {"ant": 2, "bee": 1} | {f"empty{number}": 0 for number in range(5)})
    with pytest.raises(ValueError, match=r"5 classes without an image: 'empty0', .*'empty4'\. .*too_few leave_out"):
        support(tmp_path)
    assert support(tmp_path, too_few="leave_out").class_names == ("ant", "bee")
    assert "left out of " in capsys.readouterr().err
    save_classes(tmp_path / "few", {"ant": 2, "bee": 0})
    with pytest.raises(ValueError, match="holds one class, 'ant': a classifier needs two"):
        support(tmp_path / "few", too_few="leave_out")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Omniglot(k_shot=10, n_query=15, root="nowhere", download=False), "has 20 images to draw from, .* needs 25"),
        (CIFARFS(k_shot=400, n_query=400, root="nowhere", download=False), "has 600 images"),
        (Glyphs(k_shot=11, cache="nowhere"), "has 10 images to draw from, but a task needs 11 .* each from one half"),
    ],
)
def test_sets_of_equal_classes_say_it_before_they_are_looked_for(data, message: str):
    with pytest.raises(ValueError, match=message):
        data.prepare_data()


def test_classes_that_are_all_alike_are_not_listed():
    need, why = images_needed(EpisodeShape(5, 1, 5))
    line = refusal_of_small_classes([(str(c), 4) for c in range(900)], 900, "the val split", need, why)
    assert line == (
        "each of the 900 classes of the val split has 4 images to draw from, but a task needs 6 (k_shot + n_query = 1 "
        "+ 5 = 6): lower k_shot or n_query, or add images."
    )
