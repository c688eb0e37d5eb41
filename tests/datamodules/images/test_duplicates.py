"""Images that stand twice: no task asks for what it has shown, and no image has two labels."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import ImageFolder, MiniImageNet
from datamodules.episode import Episode
from datamodules.images.bank import ImageBank
from datamodules.images.duplicates import copies_in_classes, images_of_several_classes
from datamodules.images.leaks import LeakError
from datamodules.settings import Evaluation
from tests.datamodules.image_makers import picture, save_classes
from tests.datamodules.numbered_images import NumberedImages

SIZES = {f"class{c:02}": 6 for c in range(15)}


def folder(root: Path, set_up: bool = True, **arguments) -> ImageFolder:
    """Tasks of two ways, decoded at the pictures' own size."""
    given: dict[str, Any] = {
        "n_way": 2,
        "k_shot": 1,
        "n_query": 2,
        "image_size": 12,
        "cache": str(root / "cache"),
    } | arguments
    given.setdefault("evaluation", Evaluation(n_val_tasks=2, n_test_tasks=2))
    data = ImageFolder(root=str(root / "images"), **given)
    if set_up:
        data.prepare_data()
        data.setup("fit")
    return data


def copied_once(root: Path, sizes: dict[str, int] = SIZES) -> Path:
    """Noise, each file of which is copied under another name."""
    save_classes(root / "images", sizes)
    for file in (root / "images").rglob("*.png"):
        shutil.copy(file, file.with_name(f"copy-{file.name}"))
    return root


def nearest_is_right(episode: Episode) -> tuple[float, bool]:
    """The share of queries whose nearest support image is of their class; whether one of them is in the support."""
    distance = torch.cdist(episode.query_x.flatten(2), episode.task.x.flatten(2))  # (T, Q, S)
    guess = episode.task.y.gather(1, distance.argmin(2))
    return float((guess == episode.query_y).float().mean()), float(distance.min()) < 0.01


@pytest.mark.parametrize("k_shot", [1, 5])
def test_noise_scores_chance_also_where_each_file_was_copied(tmp_path, monkeypatch, k_shot):
    copied_once(tmp_path, {f"class{c:02}": 8 for c in range(30)})
    evaluation = Evaluation(n_way=5, k_shot=k_shot, n_query=2)
    data = folder(tmp_path, evaluation=evaluation, val_fraction=0.2, test_fraction=0.6)
    score, is_shown = nearest_is_right(data.episode("test", torch.arange(600)))
    assert not is_shown
    assert score == pytest.approx(0.2, abs=0.03)
    monkeypatch.setattr(ImageFolder, "once", False)
    data = folder(tmp_path, evaluation=evaluation, val_fraction=0.2, test_fraction=0.6)
    score, is_shown = nearest_is_right(data.episode("test", torch.arange(600)))
    assert is_shown
    assert score > 0.21 + 0.03 * k_shot  # what copies are worth


def test_copies_are_counted_named_and_left_out_at_every_start(tmp_path, capsys):
    copied_once(tmp_path)
    for start in range(2):
        data = folder(tmp_path)
        assert data.bank is not None
        said = capsys.readouterr().err
        assert ("reading images" in said) == (start == 0)
        assert "ImageFolder: 90 files are left out, whose content stands in the same class before: " in said
        one = tmp_path / "images" / "class00"
        assert f"{one}/copy-000.png" in said or f"{one}/000.png is {one}/copy-000.png" in said
        assert "and 87 more" in said
        assert data.bank.class_size.tolist() == [6] * 15
        pixels = {image.permute(1, 2, 0).numpy().tobytes() for image in data.bank.images}
        assert pixels == {picture(number).tobytes() for number in range(90)}


def test_files_keep_their_names_where_others_are_broken_or_copies(tmp_path, capsys):
    save_classes(tmp_path / "images", SIZES)
    first = tmp_path / "images" / "class00"
    (first / "001.png").write_text("not a picture")
    shutil.copy(first / "000.png", first / "003.png")
    data = folder(tmp_path, strict=False)
    assert f"{first}/003.png is {first}/000.png" in capsys.readouterr().err
    data = folder(tmp_path, strict=False)  # from the cache
    assert data.bank is not None
    assert data.bank.left_out == ((1, -1), (3, 0))
    for i in (0, 1, 3, 4, 87):
        with Image.open(data.image_name(data.bank, i)) as image:
            np.testing.assert_array_equal(np.moveaxis(np.asarray(image), -1, 0), data.bank.images[i].numpy())


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_links_are_copies(tmp_path, capsys, link):
    save_classes(tmp_path / "images", SIZES)
    one = tmp_path / "images" / "class00" / "000.png"
    link(one.with_name("zzz.png"), one)
    folder(tmp_path)
    assert (
        f"1 file is left out, whose content stands in the same class before: {one.with_name('zzz.png')} is {one}"
        in (capsys.readouterr().err)
    )


def test_another_format_of_the_same_pixels_is_a_copy(tmp_path, capsys):
    save_classes(tmp_path / "images", SIZES)
    one = tmp_path / "images" / "class00" / "000.png"
    Image.open(one).save(one.with_suffix(".bmp"))
    folder(tmp_path)
    assert "1 file is left out" in capsys.readouterr().err


def test_what_differs_in_one_pixel_stays(tmp_path, capsys):
    save_classes(tmp_path / "images", SIZES)
    pixels = picture(0)
    pixels[11, 11, 2] ^= 1
    Image.fromarray(pixels).save(tmp_path / "images" / "class00" / "zzz.png")
    data = folder(tmp_path)
    assert data.bank is not None
    assert data.bank.class_size.tolist() == [7] + [6] * 14
    assert "left out" not in capsys.readouterr().err


def test_a_class_that_is_too_small_without_copies_says_so(tmp_path):
    save_classes(tmp_path / "images", dict.fromkeys(SIZES, 3))
    for c, file in enumerate(sorted((tmp_path / "images").rglob("000.png"))):
        if c % 2 == 0:
            shutil.copy(file, file.with_name("001.png"))
    with pytest.raises(ValueError, match=r"'class00' \(2\), .* but a task needs 3 .* 8 files .* are copies"):
        folder(tmp_path)


# ---- two labels


def test_one_image_in_two_folders_is_refused_naming_both(tmp_path):
    save_classes(tmp_path / "images", SIZES)
    for c in range(0, 10, 2):
        other = tmp_path / "images" / f"class{c + 1:02}" / "zzz.png"
        shutil.copy(tmp_path / "images" / f"class{c:02}" / "000.png", other)
    place = tmp_path / "images"
    with pytest.raises(LeakError) as refused:
        folder(tmp_path)
    message = str(refused.value)
    assert message.startswith(f"5 images have two labels: {place}/class01/zzz.png is {place}/class00/000.png, ")
    assert "and 2 more" in message
    assert "data.evaluation.leaks" in message
    with pytest.raises(LeakError):
        folder(tmp_path)  # from the cache


def test_who_insists_keeps_it_and_the_results_say_so(tmp_path, capsys):
    names = {split: [f"{split}/{split}{c}" for c in range(3)] for split in ("train", "val", "test")}
    save_classes(tmp_path / "images", {name: 4 for split in names.values() for name in split})
    place = tmp_path / "images"
    shutil.copy(place / "test/test0/000.png", place / "test/test2/zzz.png")
    data = folder(tmp_path, evaluation=Evaluation(leaks="warn"))
    found = f"1 image has two labels: {place}/test/test2/zzz.png is {place}/test/test0/000.png"
    assert f"warning: {found}\n" in capsys.readouterr().err
    assert data.protocol()["leaks"] == found
    assert data.bank is not None
    assert data.bank.class_size.tolist() == [4] * 8 + [5]


def test_one_image_in_two_splits_names_the_files(tmp_path):
    names = [f"{split}/{split}{c}" for split in ("train", "val", "test") for c in range(3)]
    save_classes(tmp_path / "images", dict.fromkeys(names, 4))
    place = tmp_path / "images"
    shutil.copy(place / "train/train1/000.png", place / "test/test2/zzz.png")
    with pytest.raises(LeakError, match=r"two labels: .*test/test2/zzz\.png is .*train/train1/000\.png"):
        folder(tmp_path)


def listed(tmp_path: Path, name: str, content: str) -> ImageFolder:
    save_classes(tmp_path / "images", SIZES)
    path = tmp_path / name
    path.write_text(content)
    lists = {f"{split}_list": str(path) for split in ("train", "val", "test")}
    return folder(tmp_path, set_up=False, n_way=2, **lists)


GOOD = "filename,label\nclass00/000.png,a\nclass00/001.png,a\n"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("class00/000.png,a\n", "lines? 2 and line 4 give class00/000.png the same label"),
        ("class00/000.png,b\n", "line 2 and line 4 give class00/000.png two labels, 'a' and 'b'"),
        ("\n./class00//000.png,b\n", "line 2 and line 5 give ./class00//000.png two labels, 'a' and 'b'"),
        ('"class00/002.png\n",b\nclass00/000.png,c\n', "line 2 and line 6 give"),
        ("class00/002.png,\n", "line 4 has no label"),
        ("class00/002.png,   \n", "line 4 has no label"),
        (",a\n", "line 4 has no file name"),
        (
            "x,\nclass00/000.png,b\ny,\nz,\n",
            "line 4 has no label; line 2 and line 5 .*; line 6 has no label; and 1 more",
        ),
    ],
)
def test_a_csv_line_that_says_nothing_or_the_contrary_is_refused(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, "list.csv", GOOD + lines).prepare_data()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (["x", "y", "x"], [0, 0, 1], "entry 1 and entry 3 give x two labels, 'a' and 'b'"),
        (["x", "y", "x"], [0, 0, 0], "entry 1 and entry 3 give x the same label"),
        (["x", "y"], [0, 2], "entry 2 has no label"),
    ],
)
def test_the_same_holds_for_json_lists(tmp_path, images, labels, message):
    content = {"label_names": ["a", "b", " "], "image_names": images, "image_labels": labels}
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, "list.json", json.dumps(content)).prepare_data()


# ---- published sets


def mini_imagenet(root: Path) -> MiniImageNet:
    data = MiniImageNet(n_way=2, n_query=2, root=str(root), image_size=12)
    data.prepare_data()
    data.setup("fit")
    return data


def test_a_published_set_keeps_its_copies_and_names_them_once(tmp_path, capsys):
    names = {split: [f"{split}{c}" for c in range(2)] for split in ("train", "val", "test")}
    save_classes(tmp_path / "images", {name: 4 for split in names.values() for name in split})
    images = tmp_path / "images"
    shutil.copy(images / "test0/000.png", images / "test0/002.png")
    shutil.copy(images / "val0/000.png", images / "val1/003.png")
    for split, classes in names.items():
        rows = "".join(f"{name}/{i:03}.png,{name}\n" for name in classes for i in range(4))
        (tmp_path / f"{split}.csv").write_text("filename,label\n" + rows)
    data = mini_imagenet(tmp_path)
    said = capsys.readouterr().err
    within = (
        f"1 image stands in its class twice, and stays as published: {images}/test0/002.png is {images}/test0/000.png"
    )
    between = f"1 image stands in two classes, and stays as published: {images}/val1/003.png is {images}/val0/000.png"
    assert f"MiniImageNet: {within}\nMiniImageNet: {between}\n" in said
    assert data.bank is not None
    assert set(data.bank.class_size.tolist()) == {4}
    mini_imagenet(tmp_path)
    assert capsys.readouterr().err == ""


class Doubled(NumberedImages):
    """Two classes have an image twice."""

    def build_bank(self) -> ImageBank:
        bank = super().build_bank()
        for c in (3, 4):
            bank.images[int(bank.class_start[c]) + 2] = bank.images[int(bank.class_start[c])]
        return bank.rotated()


def test_turned_classes_are_not_named_again(capsys):
    data = Doubled(n_way=3, k_shot=2, meta_batch_size=8, evaluation=Evaluation(n_way=4, n_query=3))
    data.setup("fit")
    assert capsys.readouterr().err == (
        "Doubled: 2 images stand in their class twice, and stay as published: image 3 of 'class3' is image 1 of "
        "'class3', image 3 of 'class4' is image 1 of 'class4'\n"
    )


def test_copies_and_two_labels_are_told_apart():
    digest = torch.tensor([5, 9, 5, 5, 9, 5])
    owner = np.array([0, 0, 0, 1, 1, 2])
    assert copies_in_classes(digest, owner) == [(0, 2)]
    assert images_of_several_classes(digest, owner) == [(0, 3), (1, 4), (0, 5)]
    assert copies_in_classes(digest[:0], owner[:0]) == []
