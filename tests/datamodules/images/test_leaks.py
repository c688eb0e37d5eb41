"""No class and no image is in two splits: planted leaks are found and named, and only they."""

import re

import pytest
import torch
from torch import Tensor

from app.process.errors import one_line_errors
from datamodules.images.bank import ImageBank
from datamodules.images.contents import image_digests
from datamodules.images.leaks import LeakError, leaks_between_splits
from datamodules.settings import Evaluation
from tests.datamodules.numbered_images import NumberedImages, make_data
from tests.datamodules.tiny_omniglot import ALL, module, one_line, png

CLASSES, EACH = 30, 4
SPLITS = {"train": list(range(0, 10)), "val": list(range(10, 20)), "test": list(range(20, 30))}


def noise(side: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (CLASSES * EACH, 3, side, side), generator=generator).to(torch.uint8)


def leaks_of(bank: ImageBank, splits: dict[str, list[int]] = SPLITS) -> list[str]:
    return leaks_between_splits(bank, splits, image_digests(bank.images))


def bank_of(images: Tensor) -> ImageBank:
    return ImageBank.from_sizes(images, [f"class{c}" for c in range(CLASSES)], [EACH] * CLASSES)


@pytest.mark.parametrize("side", [6, 60])
def test_different_images_are_no_leak(side):
    assert leaks_of(bank_of(noise(side))) == []


@pytest.mark.parametrize("side", [6, 60])
def test_one_image_in_two_splits_is_found(side):
    images = noise(side)
    images[25 * EACH + 1] = images[3 * EACH + 2]
    said = "test holds 1 image that is in train too: 1 of 'class25' in 'class3'"
    assert leaks_of(bank_of(images)) == [said]


def test_images_that_agree_in_their_middle_alone_are_no_leak():
    images = noise(60)
    images.view(len(images), -1)[:, 3000:8000] = 0
    assert leaks_of(bank_of(images)) == []


def test_identical_images_inside_a_split_are_no_leak():
    images = noise()
    images[1] = images[0]  # of one class
    images[EACH] = images[0]  # of two classes
    assert leaks_of(bank_of(images)) == []


def test_three_pairs_are_named_and_the_rest_counted():
    images = noise()
    for c in range(5):
        images[(20 + c) * EACH : (21 + c) * EACH - min(c, 2)] = images[c * EACH]
    images[10 * EACH] = images[29 * EACH]
    images[10 * EACH + 1] = images[29 * EACH]
    to_test, to_val = leaks_of(bank_of(images))
    assert to_test == (
        "test holds 13 images that are in train too: "
        "4 of 'class20' in 'class0', 3 of 'class21' in 'class1', 2 of 'class22' in 'class2' and 2 more"
    )
    assert to_val == "test holds 1 image that is in val too: 1 of 'class29' in 'class10'"


def test_classes_in_two_splits_are_named():
    splits = {**SPLITS, "test": [20, 21, 3, 4, 5, 6]}
    (found,) = leaks_of(bank_of(noise()), splits)
    assert found == "train and test share 4 classes: 'class3', 'class4', 'class5' and 1 more"


def test_a_turned_character_is_the_same_class():
    bank = ImageBank.from_sizes(noise()[:8], ["Dun/character01", "Dun/character02"], [4, 4]).rotated()
    (found,) = leaks_of(bank, {"train": [0], "val": [1], "test": [2]})  # 2 is 0, turned
    assert found == "train and test share 1 class: 'Dun/character01'"


# ---- in a data module


class Leaky(NumberedImages):
    """The first image of a test class is in a training class too."""

    def build_bank(self) -> ImageBank:
        bank = super().build_bank()
        bank.images[int(bank.class_start[15])] = bank.images[int(bank.class_start[3])]
        return bank


def leaky(**changes: str) -> Leaky:
    evaluation = Evaluation(n_way=4, n_query=3, **changes)  # type: ignore[arg-type]
    return Leaky(n_way=3, k_shot=2, meta_batch_size=8, evaluation=evaluation)


def test_setup_refuses_a_leak_and_says_how_to_go_on():
    data = leaky()
    with pytest.raises(LeakError) as error:
        data.setup("fit")
    message = one_line(error)
    assert "test holds 1 image that is in train too: 1 of 'class15' in 'class3'" in message
    assert "data.evaluation.leaks" in message
    with pytest.raises(LeakError):
        data.setup("fit")  # nor when asked again


@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_one_says_it(rank, monkeypatch, capsys):
    monkeypatch.setenv("RANK", str(rank))
    with pytest.raises(SystemExit) as ended, one_line_errors():
        leaky().setup("fit")
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("error: the splits leak") == (rank == 0)


def test_a_warning_is_one_line_and_stands_in_the_results(capsys):
    data = leaky(leaks="warn")
    for stage in ("fit", "test"):  # the Trainer asks again
        data.setup(stage)
    assert re.fullmatch(r"warning: the splits leak: test holds 1 image .*'class3'\n", capsys.readouterr().err)
    assert data.protocol()["leaks"] == "test holds 1 image that is in train too: 1 of 'class15' in 'class3'"


def test_no_leak_says_nothing(capsys):
    data = make_data()
    assert "leaks" not in data.protocol()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("split", ["vinyals", "lake", "within_alphabet"])
def test_a_copied_drawing_of_omniglot_is_found(folders, split):
    train, test = ALL[0], "Ebony/character02"  # in these splits of all lists
    files = sorted((folders / "omniglot").rglob(f"{test}/*.png"))
    files[4].write_bytes(png(train, 7))
    with pytest.raises(LeakError) as error:
        module(folders, split=split, rotations="none").setup("fit")
    assert f"test holds 1 image that is in train too: 1 of '{test}' in '{train}'" in one_line(error)


# ---- what was trained on, in turned classes


@pytest.mark.parametrize("trained", ["all", "train", "none"])
@pytest.mark.parametrize("tested", ["all", "train", "none"])
def test_a_turned_character_is_found_however_it_was_trained_on(folders, trained, tested):
    source = module(folders, split="vinyals", rotations=trained)
    source.setup("fit")
    data = module(folders, split="lake", rotations=tested)
    data.setup("test")
    with pytest.raises(LeakError, match="that the checkpoint or its backbone was trained on") as refused:
        data.check_unseen([], ("test",), source.trained_images())
    turns = 4 if tested == "all" else 1
    assert f"test holds {20 * turns} images" in str(refused.value)  # one of its characters was trained on
    own = module(folders, split="vinyals", rotations=tested)
    own.setup("test")
    own.check_unseen([], ("val", "test"), source.trained_images())


def test_drawings_that_somebody_turned_are_found_too(folders):
    source = module(folders, split="vinyals", rotations="all")
    source.setup("fit")
    assert source.bank is not None
    first = int(source.pools["train"].class_start[0])
    turned = image_digests(torch.rot90(source.bank.images[first : first + 1], 3, (2, 3)))
    assert torch.isin(turned, source.trained_images()).all()
