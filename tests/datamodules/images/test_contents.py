"""Images by their content: whole images count, what is stored is found again, and no damage or race makes it wrong."""

import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import ImageFolder, Sinusoid
from datamodules.images import contents
from datamodules.images.bank import ImageBank
from datamodules.images.cache import load_or_build
from datamodules.images.contents import contents_of, image_digests
from datamodules.settings import Evaluation, Loading
from tests.datamodules.image_makers import save_classes
from tests.datamodules.numbered_images import make_data

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _own_user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def images(n: int = 1100, side: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, side, side), generator=generator).to(torch.uint8)


def cached_bank(folder: Path, pixels: Tensor | None = None) -> ImageBank:
    pixels = images() if pixels is None else pixels
    return load_or_build(folder, "toy", "k", lambda: ImageBank.from_sizes(pixels, ["a", "b"], [100, len(pixels) - 100]))


@pytest.mark.parametrize("side", [6, 60])
@pytest.mark.parametrize("byte", [0, -1, 50])
def test_every_byte_counts(side, byte):
    pixels = images(4, side)
    pixels[1:] = pixels[0]
    pixels[2].view(-1)[byte] ^= 1
    one, same, other, _ = image_digests(pixels).tolist()
    assert one == same != other


def test_the_digests_are_the_same_in_every_process():  # which hash() of bytes is not
    assert image_digests(torch.zeros(1, 1, 2, 2, dtype=torch.uint8)).tolist() == [-7059167771142159282]


def test_views_have_the_digests_of_what_they_show():
    pixels = images(8)
    turned = torch.rot90(pixels, 1, (2, 3))
    assert torch.equal(image_digests(turned), image_digests(turned.contiguous()))
    assert image_digests(pixels[:0]).shape == (0,)


def never(_: Tensor) -> Tensor:
    pytest.fail("computed again")


def test_they_are_computed_once_and_kept(tmp_path):
    first = contents_of(cached_bank(tmp_path / "data"))
    again = contents_of(cached_bank(tmp_path / "data"))
    assert (first.fresh, again.fresh) == (True, False)
    assert torch.equal(first.digest, image_digests(images()))
    assert torch.equal(again.digest, first.digest)
    assert sorted(os.listdir(tmp_path / "data" / "toy-k.bank")) == ["classes.json", "contents.npy", "images.npy"]


def test_turned_classes_have_a_file_of_their_own(tmp_path):
    bank = cached_bank(tmp_path / "data")
    for each in (bank, bank.rotated(), bank, bank.rotated()):
        assert torch.equal(contents_of(each).digest, image_digests(each.images))
    assert not contents_of(bank.rotated()).fresh
    assert torch.equal(contents_of(bank.rotated()).digest[: len(bank.images)], contents_of(bank).digest)


def test_a_bank_in_memory_stores_nothing(tmp_path):
    bank = ImageBank.from_sizes(images(), ["a"], [1100])
    for _ in range(2):
        assert contents_of(bank).fresh
    assert not (tmp_path / "user").exists()


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damage_anywhere_is_found_and_mended(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    bank = cached_bank(tmp_path / "data", images(120))
    expected = contents_of(bank).digest
    file = tmp_path / "data" / "toy-k.bank" / "contents.npy"
    for position in range(0, file.stat().st_size, 13):
        data = bytearray(file.read_bytes())
        if damage == "cut":
            del data[position:]
        else:
            data[position] ^= 4
        file.write_bytes(data)
        assert torch.equal(contents_of(bank).digest, expected)
    assert not contents_of(bank).fresh


def test_a_file_of_another_bank_is_not_believed(tmp_path):
    contents_of(cached_bank(tmp_path / "data"))
    changed = 255 - images()
    bank = cached_bank(tmp_path / "other", changed)
    shutil.copy(tmp_path / "data" / "toy-k.bank" / "contents.npy", tmp_path / "other" / "toy-k.bank" / "contents.npy")
    assert torch.equal(contents_of(bank).digest, image_digests(changed))


def test_where_the_cache_cannot_be_written_the_users_serves(tmp_path, monkeypatch):
    bank = cached_bank(tmp_path / "data")
    store = contents._store

    def read_only(digest: Tensor, path: Path) -> None:
        if path.is_relative_to(tmp_path / "data"):
            raise PermissionError(path)
        store(digest, path)

    monkeypatch.setattr(contents, "_store", read_only)
    assert contents_of(bank).fresh
    assert not contents_of(bank).fresh
    assert (tmp_path / "user" / "quickstudy" / "toy-k.contents.npy").is_file()


def test_where_nothing_can_be_written_they_are_computed(tmp_path, monkeypatch):
    bank = cached_bank(tmp_path / "data")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "data" / "toy-k.bank" / "contents.npy").mkdir()  # read-only folders do not stop root, a folder does
    for _ in range(2):
        assert torch.equal(contents_of(bank).digest, image_digests(images()))
    assert sorted(os.listdir(tmp_path / "data" / "toy-k.bank")) == ["classes.json", "contents.npy", "images.npy"]


def digest_in_child(folder: Path, start: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    if not torch.equal(contents_of(cached_bank(folder)).digest, image_digests(images())):
        os._exit(1)


def test_several_processes_end_well(tmp_path):
    cached_bank(tmp_path / "data")
    start = FORK.Barrier(3)
    children = [FORK.Process(target=digest_in_child, args=(tmp_path / "data", start)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert not contents_of(cached_bank(tmp_path / "data")).fresh
    assert sorted(os.listdir(tmp_path / "data" / "toy-k.bank")) == ["classes.json", "contents.npy", "images.npy"]


# ---- what the data are

CLASSES = dict.fromkeys("abcdefghjklm", 3)


def folder_data(root: Path, **changes: object) -> ImageFolder:
    evaluation = Evaluation(n_query=1, n_test_tasks=5)
    data = ImageFolder(n_way=2, n_query=1, root=str(root), image_size=12, evaluation=evaluation, **changes)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    return data


def test_the_identity_is_of_what_the_data_are_not_of_where_they_lie(tmp_path):
    root = save_classes(tmp_path / "one", CLASSES)
    identity = folder_data(root).identity()
    assert len(identity) == 16
    assert folder_data(root).identity() == identity  # from the cache
    moved = shutil.copytree(root, tmp_path / "two")
    for file in moved.rglob("*.png"):
        os.utime(file, (0, 0))
    assert folder_data(moved).identity() == identity
    loading = Loading(images_on="cpu", cache_features=False)
    assert folder_data(root, loading=loading, cache=str(tmp_path / "cache"), seed=3).identity() == identity


def test_the_identity_changes_with_an_image_a_name_and_a_split(tmp_path):
    root = save_classes(tmp_path / "one", CLASSES)
    found = {folder_data(root).identity(), folder_data(root, split_seed=1).identity()}
    (root / "a").rename(root / "A")
    found.add(folder_data(root).identity())
    shutil.copy(root / "b" / "000.png", root / "b" / "spare.png")
    save_classes(root, {"i": 3}, first=100)
    found.add(folder_data(root).identity())
    save_classes(root, {"i": 3}, first=200)
    found.add(folder_data(root).identity())
    assert len(found) == 5


def test_functions_are_told_apart_by_what_they_are():
    assert Sinusoid(k_shot=5).identity() == Sinusoid(k_shot=10).identity()
    kinds = [Sinusoid(), Sinusoid(protocol="reptile"), Sinusoid(oracle=True)]
    assert len({data.identity() for data in kinds}) == 3
    assert len(make_data().identity()) == 16
