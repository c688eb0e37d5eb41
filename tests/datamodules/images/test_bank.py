"""The image bank and its cache: what is stored comes back, and no damage, race or read-only folder stops it."""

import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest
import torch

from datamodules.images import cache as bank_cache
from datamodules.images.bank import ImageBank
from datamodules.images.cache import fingerprint, load_or_build
from datamodules.progress import progress


def small_bank(fill: int = 0) -> ImageBank:
    images = (torch.arange(5 * 2 * 3 * 3) + fill).to(torch.uint8).view(5, 2, 3, 3)
    return ImageBank.from_sizes(images, ["a", "b"], [2, 3], [1, 2])


def assert_same(one: ImageBank, other: ImageBank) -> None:
    assert one.class_names == other.class_names
    for name in ("images", "class_start", "class_size", "first_half"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


class Builder:
    """Counts how often the bank was really built."""

    def __init__(self, fill: int = 0) -> None:
        self.fill, self.times = fill, 0

    def __call__(self) -> ImageBank:
        self.times += 1
        return small_bank(self.fill)


@pytest.fixture(autouse=True)
def _own_user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_from_sizes_places_the_classes():
    bank = small_bank()
    assert bank.class_start.tolist() == [0, 2]
    assert bank.class_size.tolist() == [2, 3]


def test_rotated_turns_every_class():
    bank = small_bank()
    turned = bank.rotated()
    assert turned.class_names[::2] == ("a/rot000", "a/rot090", "a/rot180", "a/rot270")
    assert turned.class_start.tolist() == [0, 2, 5, 7, 10, 12, 15, 17]
    assert turned.first_half is not None
    assert turned.first_half.tolist() == [1, 2] * 4
    for c, name in enumerate(turned.class_names):
        base, turns = bank.class_names.index(name[0]), int(name[-3:]) // 90
        one = turned.images[turned.class_start[c] :][: turned.class_size[c]]
        original = bank.images[bank.class_start[base] :][: bank.class_size[base]]
        assert torch.equal(one, torch.stack([torch.rot90(image, turns, (1, 2)) for image in original]))


def test_rotated_refuses_oblong_images():
    with pytest.raises(ValueError, match="square images, got 2x3"):
        ImageBank.from_sizes(torch.zeros(1, 1, 2, 3, dtype=torch.uint8), ["a"], [1]).rotated()


@pytest.mark.parametrize(
    ("images", "names", "sizes", "half", "message"),
    [
        (torch.zeros(2, 1, 3, 3), ["a"], [2], None, "uint8"),
        (torch.zeros(2, 3, 3, dtype=torch.uint8), ["a"], [2], None, "N, C, H, W"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), ["a"], [3], None, "sum to 3"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), ["a", "b"], [2], None, "2 class names"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), ["a", "b"], [2, 0], None, "at least one"),
        (torch.zeros(2, 1, 3, 3, dtype=torch.uint8), ["a"], [2], [2], "first_half"),
    ],
)
def test_a_bad_bank_is_refused(images, names, sizes, half, message):
    with pytest.raises(ValueError, match=message):
        ImageBank.from_sizes(images, names, sizes, half)


def test_the_cache_gives_the_same_bank_without_building(tmp_path):
    build = Builder()
    first = load_or_build(tmp_path / "data", "toy", "k", build)
    second = load_or_build(tmp_path / "data", "toy", "k", build)
    assert build.times == 1
    assert_same(first, small_bank())
    assert_same(second, small_bank())
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["toy-k.bank"]  # nothing left lying about


def test_writing_to_a_loaded_bank_leaves_the_cache_as_it_is(tmp_path, recwarn):
    load_or_build(tmp_path, "toy", "k", Builder()).images.fill_(7)
    build = Builder()
    assert_same(load_or_build(tmp_path, "toy", "k", build), small_bank())
    assert build.times == 0
    assert not recwarn.list  # torch warns where the memory cannot be written


def test_another_key_builds_anew(tmp_path):
    load_or_build(tmp_path, "toy", fingerprint("a.png", 10, 1), Builder())
    build = Builder(fill=1)
    assert_same(load_or_build(tmp_path, "toy", fingerprint("a.png", 10, 2), build), small_bank(1))
    assert build.times == 1


def truncate(entry: Path) -> None:
    os.truncate(entry / "images.npy", (entry / "images.npy").stat().st_size - 1)


def flip_a_byte(entry: Path) -> None:
    data = bytearray((entry / "images.npy").read_bytes())
    data[-3] ^= 1
    (entry / "images.npy").write_bytes(data)


def empty_the_table(entry: Path) -> None:
    (entry / "classes.json").write_text("")


def list_for_table(entry: Path) -> None:
    (entry / "classes.json").write_text("[]")


def remove_images(entry: Path) -> None:
    (entry / "images.npy").unlink()


def put_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("not a folder")


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, empty_the_table, list_for_table, remove_images, put_a_file])
def test_a_damaged_cache_is_rebuilt(tmp_path, damage):
    load_or_build(tmp_path / "data", "toy", "k", Builder())
    damage(tmp_path / "data" / "toy-k.bank")
    build = Builder()
    assert_same(load_or_build(tmp_path / "data", "toy", "k", build), small_bank())
    assert build.times == 1
    again = Builder()
    assert_same(load_or_build(tmp_path / "data", "toy", "k", again), small_bank())
    assert again.times == 0
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["toy-k.bank"]


def test_a_folder_that_cannot_be_made_falls_back_to_the_users_cache(tmp_path):
    (tmp_path / "file").write_text("in the way")  # read-only folders do not stop root, a file does
    build = Builder()
    for _ in range(2):
        assert_same(load_or_build(tmp_path / "file" / "data", "toy", "k", build), small_bank())
    assert build.times == 1
    assert (tmp_path / "user" / "quickstudy" / "toy-k.bank" / "images.npy").is_file()


def test_without_any_folder_the_bank_stays_in_memory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert_same(load_or_build(tmp_path / "file", "toy", "k", Builder()), small_bank())


def test_two_at_once_both_end_well(tmp_path):
    both_building = threading.Barrier(2, timeout=10)
    banks = []

    def build() -> ImageBank:
        both_building.wait()  # neither has found the other's cache
        return small_bank()

    threads = [
        threading.Thread(target=lambda: banks.append(load_or_build(tmp_path / "data", "toy", "k", build)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(banks) == 2
    for bank in banks:
        assert_same(bank, small_bank())
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["toy-k.bank"]


def test_a_large_file_is_checked_at_its_ends_and_between(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_cache, "BLOCK_BYTES", 4)
    monkeypatch.setattr(bank_cache, "CHECKED_BLOCKS", 3)
    file = tmp_path / "file"
    whole = bytearray(range(100))
    file.write_bytes(whole)
    checksum = bank_cache._blocks_checksum(file)
    for position in (0, 50, 99):
        changed = bytearray(whole)
        changed[position] ^= 1
        file.write_bytes(changed)
        assert bank_cache._blocks_checksum(file) != checksum, position


def test_the_fingerprint_is_the_same_in_every_process_and_on_every_machine():
    assert fingerprint("ä", [1, 2.5], {"b": 1, "a": None}) == "3dc0d403375db1e5"
    assert fingerprint("ä", [1, 2.5], {"a": None, "b": 1}) == "3dc0d403375db1e5"
    assert fingerprint("a", 1) != fingerprint("a", 2) != fingerprint(2, "a")


def test_progress_is_one_plain_line_where_there_is_no_terminal(capsys):
    with progress("reading", 1200) as advance:
        advance(600)
        advance(600)
    assert capsys.readouterr().err == "reading (1,200) ...\n"
