"""The published data sets and their splits, on tiny copies and, of mini-ImageNet, on what is at hand."""

import hashlib
import os
import pickle
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR100

from datamodules import CIFARFS, CUB, FC100, MiniImageNet, TieredImageNet
from datamodules.images.image_lists import read_json
from datamodules.sets import cub, tiered_imagenet
from datamodules.sets.cifar import cifar_fs_lists
from tests.datamodules.image_makers import picture, save_classes

DATA = os.environ.get("QUICKSTUDY_DATA", "")


def split_names(data) -> dict[str, list[str]]:
    data.prepare_data()
    data.setup("fit")
    return {split: [data.bank.class_names[c] for c in pool.class_id.tolist()] for split, pool in data.pools.items()}


# ---- mini-ImageNet


def tiny_mini_imagenet(root: Path) -> Path:
    """Five images of 14x10 pixels for each of seven classes."""
    images = root / "images"
    images.mkdir(parents=True)
    number = 0
    for split, classes in {"train": "abc", "val": "de", "test": "fg"}.items():
        rows = []
        for name in classes:
            for i in range(5):
                Image.fromarray(picture(number, 10, 14)).save(images / f"n{name}{i}.jpg", quality=95)
                rows.append(f"n{name}{i}.jpg,n{name}\n")
                number += 1
        (root / f"{split}.csv").write_text("filename,label\n" + "".join(rows))
    return root


@pytest.mark.parametrize("inside", ["", "mini-imagenet", "miniimagenet"])
def test_mini_imagenet_is_found_and_split_by_its_lists(tmp_path: Path, inside: str):
    tiny_mini_imagenet(tmp_path / inside)
    data = MiniImageNet(n_way=2, n_query=2, root=str(tmp_path), image_size=12)
    assert split_names(data) == {"train": ["na", "nb", "nc"], "val": ["nd", "ne"], "test": ["nf", "ng"]}
    with Image.open(tmp_path / inside / "images" / "nb3.jpg") as image:
        expected = np.asarray(image.convert("RGB").resize((12, 12), Image.Resampling.BILINEAR))
    assert data.bank is not None
    np.testing.assert_array_equal(data.bank.images[8].numpy(), np.moveaxis(expected, -1, 0))
    assert data.protocol()["images_per_class"] == 5
    assert list((tmp_path).glob("miniimagenet-12-*.bank"))


def test_mini_imagenet_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"mini-ImageNet is not in .*train\.csv"):
        MiniImageNet(root=str(tmp_path)).prepare_data()


@pytest.mark.skipif(
    not Path(DATA, "mini-imagenet").is_dir() or not DATA,
    reason="set QUICKSTUDY_DATA to a folder that holds mini-imagenet/",
)
def test_the_real_mini_imagenet(tmp_path: Path):
    (tmp_path / "mini-imagenet").symlink_to(Path(DATA).absolute() / "mini-imagenet")
    data = MiniImageNet(root=str(tmp_path))
    assert {split: len(names) for split, names in split_names(data).items()} == {"train": 64, "val": 16, "test": 20}
    assert data.leaks == []
    assert data.bank is not None
    assert data.bank.images.shape[1:] == (3, 84, 84)
    name = data.bank.class_names[70]
    first = sorted((tmp_path / "mini-imagenet" / "images").glob(f"{name}*.jpg"))[0]
    with Image.open(first) as image:  # 84x84 as it is: no filter between the file and the bank
        np.testing.assert_array_equal(
            data.bank.images[int(data.bank.class_start[70])].permute(1, 2, 0), np.asarray(image)
        )


# ---- CIFAR-100


@pytest.fixture(scope="module")
def tiny_cifar(tmp_path_factory: pytest.TempPathFactory):
    """CIFAR-100 as its archive unpacks, with eight images of a class, and torchvision's checksums to match."""
    root = tmp_path_factory.mktemp("cifar")
    folder = root / "cifar-100-python"
    folder.mkdir()
    names = sorted(name for pairs in cifar_fs_lists().values() for _, name in pairs)
    rng = np.random.default_rng(0)
    sums = {}
    for part, each in (("train", 5), ("test", 3)):
        labels = rng.permutation(np.repeat(np.arange(100), each))
        pixels = rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
        pixels[:, :, 0, 0] = labels[:, None]  # tells the class
        with (folder / part).open("wb") as file:
            pickle.dump({"data": pixels.reshape(len(labels), -1), "fine_labels": labels.tolist()}, file)
    with (folder / "meta").open("wb") as file:
        pickle.dump({"fine_label_names": names}, file)
    for part in ("train", "test", "meta"):
        sums[part] = hashlib.md5((folder / part).read_bytes()).hexdigest()
    patch = pytest.MonkeyPatch()
    patch.setattr(CIFAR100, "train_list", [["train", sums["train"]]])
    patch.setattr(CIFAR100, "test_list", [["test", sums["test"]]])
    patch.setattr(CIFAR100, "meta", {**CIFAR100.meta, "md5": sums["meta"]})
    yield root
    patch.undo()


@pytest.mark.parametrize(("kind", "sizes"), [(CIFARFS, (64, 16, 20)), (FC100, (60, 20, 20))])
def test_cifars_splits_hold_every_class_once(tiny_cifar: Path, kind, sizes):
    data = kind(n_query=3, root=str(tiny_cifar), download=False)
    found = split_names(data)
    assert tuple(map(len, found.values())) == sizes
    assert len({name for names in found.values() for name in names}) == 100
    episode = data.episode("test", torch.arange(3))
    colour = (episode.query_x[:, :, 0, 0, 0] * 255).round().long()  # (T, Q)
    assert torch.equal(colour, episode.task.classes.gather(1, episode.query_y))


def test_fc100_shares_no_superclass_between_splits(tiny_cifar: Path):
    of = {name: superclass for pairs in cifar_fs_lists().values() for superclass, name in pairs}
    assert len(set(of.values())) == 20
    found = [{of[name] for name in names} for names in split_names(FC100(n_query=3, root=str(tiny_cifar))).values()]
    assert [len(superclasses) for superclasses in found] == [12, 4, 4]
    assert all(not one & other for one, other in combinations(found, 2))


@pytest.mark.parametrize("damage", ["removed", "changed"])
def test_cifar_that_is_not_sound_is_refused(tiny_cifar: Path, tmp_path: Path, damage: str):
    """A pickle that somebody changed is not read at all."""
    if damage == "changed":
        (tmp_path / "cifar-100-python").mkdir()
        for file in (tiny_cifar / "cifar-100-python").iterdir():
            (tmp_path / "cifar-100-python" / file.name).write_bytes(file.read_bytes() + b".")
    with pytest.raises(ValueError, match=r"CIFAR-100 is not in .*cifar-100-python\.tar\.gz"):
        CIFARFS(root=str(tmp_path), download=False).prepare_data()


# ---- CUB and tieredImageNet


def test_the_lists_are_the_published_ones():
    birds = {split: read_json(cub.LISTS / f"{split}.json") for split in ("train", "val", "test")}
    assert [len(names) for names in birds.values()] == [100, 50, 50]
    number = {split: [int(name.split(".")[0]) for name in names] for split, names in birds.items()}
    assert number["train"] == list(range(1, 201, 2))  # Chen et al.: every second species trains
    assert number["val"] == list(range(2, 201, 4))
    wordnet = {s: (tiered_imagenet.LISTS / f"{s}.txt").read_text().split() for s in ("train", "val", "test")}
    assert [len(names) for names in wordnet.values()] == [351, 97, 160]
    assert len({name for names in wordnet.values() for name in names}) == 608


@pytest.mark.parametrize("inside", ["CUB_200_2011/images", "images"])
def test_cub_is_found_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str):
    lists = {"train": ["001.A", "003.C"], "val": ["002.B", "006.F"], "test": ["004.D", "008.H"]}
    monkeypatch.setattr(cub, "read_json", lambda path: lists[path.stem])
    save_classes(tmp_path / inside, {name: 4 for names in lists.values() for name in names}, ".jpg")
    assert split_names(CUB(n_way=2, n_query=3, root=str(tmp_path), image_size=12)) == lists


@pytest.mark.parametrize("inside", ["", "train", "ILSVRC/Data/CLS-LOC/train"])
def test_tiered_imagenet_is_found_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str):
    lists = {"train": ["n1", "n2"], "val": ["n3", "n4"], "test": ["n5", "n6"]}
    (tmp_path / "lists").mkdir()
    for split, names in lists.items():
        (tmp_path / "lists" / f"{split}.txt").write_text("\n".join(names))
    monkeypatch.setattr(tiered_imagenet, "LISTS", tmp_path / "lists")
    save_classes(tmp_path / "in" / inside, {f"n{i}": 4 for i in range(1, 9)}, ".JPEG")  # ImageNet has more classes
    data = TieredImageNet(n_way=2, n_query=3, root=str(tmp_path / "in"), image_size=12, cache=str(tmp_path / "cache"))
    assert split_names(data) == lists


@pytest.mark.parametrize(("kind", "message"), [(CUB, r"CUB_200_2011\.tgz"), (TieredImageNet, "ImageNet is not in")])
def test_what_is_not_there_is_refused_with_what_to_do(tmp_path: Path, kind, message: str):
    with pytest.raises(ValueError, match=message):
        kind(root=str(tmp_path)).prepare_data()


def test_a_species_without_images_is_named(tmp_path: Path):
    first = read_json(cub.LISTS / "train.json")[0]
    save_classes(tmp_path / "images", {first: 1})
    with pytest.raises(ValueError, match=r"not whole: 003\.Sooty_Albatross, .* and 196 more have no image"):
        CUB(root=str(tmp_path)).prepare_data()
