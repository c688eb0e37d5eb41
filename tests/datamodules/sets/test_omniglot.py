"""Omniglot's splits, groups and rotations, on a tiny copy; on the real one where QUICKSTUDY_DATA holds omniglot/."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.images.bank import ImageBank
from datamodules.sets.omniglot import omniglot
from datamodules.sets.omniglot.omniglot import Omniglot, class_lists
from datamodules.sets.omniglot.source import PARTS, Part
from datamodules.settings import Evaluation
from tests.datamodules.tiny_omniglot import LAKE, VINYALS, module

SHIPPED = Path(omniglot.__file__).parents[2] / "splits"
REAL = Path(os.environ["QUICKSTUDY_DATA"]) if os.environ.get("QUICKSTUDY_DATA") else None
needs_data = pytest.mark.skipif(
    REAL is None or not (REAL / "omniglot").is_dir(), reason="set QUICKSTUDY_DATA to a folder that holds omniglot/"
)


def bank_of(data: Omniglot) -> ImageBank:
    assert data.bank is not None, "setup() comes first"
    return data.bank


@pytest.mark.parametrize(
    ("rotations", "counts"),
    [("all", (16, 16, 16)), ("train", (16, 4, 4)), ("none", (4, 4, 4))],
)
def test_rotations_are_classes_of_the_split_of_their_character(folders, rotations, counts):
    data = module(folders, rotations=rotations)
    bank = data.build_bank()
    splits = data.split_classes(bank)
    assert tuple(len(splits[split]) for split in ("train", "val", "test")) == counts
    for split, classes in splits.items():
        assert len(set(classes)) == len(classes)
        characters = {"/".join(bank.class_names[c].split("/")[:2]) for c in classes}
        assert characters == set(VINYALS[split])
        turns = {bank.class_names[c].split("/")[2] for c in classes if rotations != "none"}
        assert len(turns) == {16: 4, 4: 1}[len(classes)] * (rotations != "none")


def test_lake_keeps_his_evaluation_alphabets_for_the_test(folders):
    data = module(folders, split="lake", rotations="none")
    bank = data.build_bank()
    named = {s: [bank.class_names[c] for c in classes] for s, classes in data.split_classes(bank).items()}
    assert named == LAKE
    assert data.split_groups(bank) is None


def test_trainval_trains_on_the_validation_characters_too_and_says_so(folders, capfd):
    with pytest.raises(ValueError, match="train and val share 4 classes"):
        module(folders, split="vinyals_trainval").setup("fit")
    data = module(folders, split="vinyals_trainval", rotations="none", evaluation=Evaluation(n_way=2, leaks="warn"))
    data.setup("fit")
    assert "train and val share 4 classes" in capfd.readouterr().err
    bank = bank_of(data)
    named = {s: sorted(bank.class_names[c] for c in classes) for s, classes in data.split_classes(bank).items()}
    assert named == VINYALS | {"train": sorted(VINYALS["train"] + VINYALS["val"])}


@pytest.mark.parametrize("rotations", ["all", "train", "none"])
def test_within_an_alphabet_every_task_keeps_to_one(folders, rotations):
    data = module(folders, split="within_alphabet", rotations=rotations)
    data.setup("fit")
    for split in ("train", "val", "test"):
        seen = set()
        for classes in data.episode(split, torch.arange(100)).task.classes.tolist():
            kinds = {(name[0], *name.split("/")[2:]) for name in (bank_of(data).class_names[c] for c in classes)}
            assert len(kinds) == 1
            seen |= kinds
        assert {kind[0] for kind in seen} == {name[0] for name in LAKE[split]}
        turned = rotations == "all" or (rotations == "train" and split == "train")
        assert len(seen) == len({kind[0] for kind in seen}) * (4 if turned else 1)


def test_small_alphabets_are_left_out_of_training_but_never_of_the_test(folders):
    data = module(folders, 3, split="within_alphabet", rotations="none", evaluation=Evaluation(n_way=2))
    groups = data.split_groups(data.build_bank())
    assert groups is not None
    assert [len(group) for group in groups["train"]] == [3]  # Amber; Blue has 2
    assert [len(group) for group in groups["test"]] == [3, 2]
    strict = module(folders, 3, split="within_alphabet", rotations="none")
    refused = strict.split_groups(strict.build_bank())
    assert refused is not None
    assert [len(group) for group in refused["test"]] == [3, 2]  # for the base to refuse
    with pytest.raises(ValueError, match="n_way = 3"):
        module(folders, 3, split="within_alphabet", evaluation=Evaluation(n_way=3)).setup("test")
    with pytest.raises(ValueError, match="n_way = 9"):
        module(folders, 9, split="within_alphabet", evaluation=Evaluation(n_way=2)).setup("fit")


def test_a_checkpoint_of_many_ways_can_be_tested_within_alphabets(folders):
    data = module(folders, 9, split="within_alphabet", evaluation=Evaluation(n_way=2, n_test_tasks=3))
    data.setup("test")
    assert data.episode("test", torch.arange(3)).task.classes.shape == (3, 2)
    with pytest.raises(ValueError, match="n_way = 9"):
        data.setup("fit")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"split": "ravi"}, "vinyals, vinyals_trainval, lake"),
        ({"rotations": "some"}, "'some'"),
        ({"image_size": 0}, "got 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        Omniglot(**arguments)


def test_hyperparameters_make_the_same_data_module(folders):
    made = module(folders, split="lake", rotations="train", image_size=20)
    again = Omniglot(**{name: value for name, value in made.hparams.items() if not name.startswith("_")})
    assert (again.split, again.rotations, again.image_shape) == ("lake", "train", (1, 20, 20))
    assert made.protocol()["split"] == "lake"
    assert made.input_spec()["ink"] == "white on black"


# ---- the class lists as shipped, and the real data


def test_the_shipped_lists_are_disjoint_and_whole():
    vinyals, lake = class_lists("vinyals"), class_lists("lake")
    assert [len(vinyals[split]) for split in ("train", "val", "test")] == [1028, 172, 423]
    assert [len(lake[split]) for split in ("train", "val", "test")] == [806, 158, 659]
    everything = [set().union(*lists.values()) for lists in (vinyals, lake)]
    assert everything[0] == everything[1]
    assert len(everything[0]) == 1623
    alphabets = {split: {name.split("/")[0] for name in names} for split, names in lake.items()}
    assert [len(alphabets[split]) for split in ("train", "val", "test")] == [25, 5, 20]
    assert not alphabets["train"] & alphabets["val"]


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Path:
    """The real data behind links, so that the cache is the test's own and later tests find it."""
    assert REAL is not None
    root = tmp_path_factory.mktemp("real")
    for part in PARTS:
        for name in (part, f"{part}.zip"):
            if (REAL / "omniglot" / name).exists():
                (root / name).symlink_to(REAL / "omniglot" / name)
    return root


@needs_data
@pytest.mark.parametrize("split", ["vinyals", "lake", "within_alphabet"])
def test_the_real_omniglot(real, split):
    data = Omniglot(n_way=20, root=str(real), split=split, rotations="train", download=False)
    data.setup("fit")
    assert bank_of(data).images.shape == (4 * 32460, 1, 28, 28)
    assert len(data.contents[:32460].unique()) == 32459  # image 19 of Braille/character01 is its image 3
    n_classes = {split: len(pool.class_id) for split, pool in data.pools.items()}
    if split == "vinyals":
        assert n_classes == {"train": 4 * 1028, "val": 172, "test": 423}
    else:
        assert n_classes["test"] == 659
    if split == "within_alphabet":
        assert len(data.pools["test"].group_size) == 20
    ink = bank_of(data).images[:32460].float().mean() / 255
    assert 0.05 < float(ink) < 0.12  # ink is rare, so white on black


@needs_data
def test_real_drawings_are_read_from_a_zip_as_they_are(real, tmp_path):
    part = next(part for part in omniglot.located_parts(real, may_download=False) if part.path.suffix != ".zip")
    drawings = [drawing for drawing in part.drawings() if drawing.path.startswith(("Greek/", "Korean/", "Tengwar/"))]
    path = tmp_path / f"{part.path.name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for drawing in drawings:
            archive.write(part.path / drawing.path, f"{part.path.name}/{drawing.path}")
    zipped = Part(path)
    found = {drawing.path.removeprefix(f"{part.path.name}/"): drawing for drawing in zipped.drawings()}
    assert len(found) == len(drawings) >= 500
    files = zipped.read(found[drawing.path] for drawing in drawings)
    assert list(files) == list(part.read(drawings))


@needs_data
def test_real_drawings_are_resized_faithfully(real):
    bank = Omniglot(root=str(real), rotations="none", download=False).build_bank()
    c = bank.class_names.index("Korean/character07")
    part = next(part for part in omniglot.located_parts(real, may_download=False) if "background" in part.path.name)
    drawing = sorted(d for d in part.drawings() if d.character == "Korean/character07")[2]
    paper = Image.open(io.BytesIO(next(part.read([drawing])))).convert("L")
    smaller = torch.from_numpy(255.0 - np.asarray(paper, np.float32))[None, None]
    smaller = torch.nn.functional.interpolate(smaller, (28, 28), mode="bicubic", antialias=True)[0, 0]
    found = bank.images[bank.class_start[c] + 2, 0].float()
    assert torch.corrcoef(torch.stack([smaller.flatten(), found.flatten()]))[0, 1] > 0.98
