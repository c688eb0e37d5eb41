"""What can happen to the cache: damage anywhere, builders killed at any moment, a full disk."""

import ctypes
import functools
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.images.bank import ImageBank
from datamodules.images.cache import load_or_build

FORK = multiprocessing.get_context("fork")  # a fresh interpreter would take seconds to import torch
DAY = 24 * 3600


@pytest.fixture(autouse=True)
def _own_user_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def cache(tmp_path) -> Path:
    """A folder for nothing but the cache."""
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@functools.cache
def bank(n_images: int = 5) -> ImageBank:
    images = (torch.arange(n_images * 2 * 64) % 251).to(torch.uint8).view(n_images, 2, 8, 8)
    return ImageBank.from_sizes(images, ["a", "b"], [2, n_images - 2], [1, 2])


def assert_whole(found: ImageBank, n_images: int = 5) -> None:
    expected = bank(n_images)
    assert found.class_names == expected.class_names
    for name in ("images", "class_start", "class_size", "first_half"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def never() -> ImageBank:
    pytest.fail("built again")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- the cached bank itself


@pytest.mark.parametrize("file", ["classes.json", "images.npy"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damage_anywhere_is_found_and_mended(tmp_path, monkeypatch, file, damage):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # some hundred times
    load_or_build(tmp_path / "data", "toy", "k", bank)
    path = tmp_path / "data" / "toy-k.bank" / file
    for position in range(0, path.stat().st_size, 2 if file == "classes.json" else 11):
        data = bytearray(path.read_bytes())
        if damage == "cut":
            del data[position:]
        else:
            data[position] ^= 1 << random.Random(position).randrange(8)
        path.write_bytes(data)
        assert_whole(load_or_build(tmp_path / "data", "toy", "k", bank))
    assert names(tmp_path / "data") == ["toy-k.bank"]
    load_or_build(tmp_path / "data", "toy", "k", never)


def test_another_class_name_in_the_table_is_damage(cache):
    load_or_build(cache, "toy", "k", bank)
    table = cache / "toy-k.bank" / "classes.json"
    table.write_text(table.read_text().replace('"a"', '"c"'))
    assert_whole(load_or_build(cache, "toy", "k", bank))


def test_a_bank_in_use_outlives_its_file(cache):
    load_or_build(cache, "toy", "k", bank)
    loaded = load_or_build(cache, "toy", "k", never)
    shutil.rmtree(cache / "toy-k.bank")
    assert_whole(loaded)
    assert_whole(load_or_build(cache, "toy", "k", bank))


# ---- several processes

LARGE = 30_000  # images, 4 MB


def build_in_child(folder: Path, start: Any) -> None:
    start.wait()
    assert_whole(load_or_build(folder, "toy", "k", lambda: bank(LARGE)), LARGE)


def test_builders_killed_at_any_moment_harm_nobody(cache):
    moments = random.Random(0)
    left = 0
    bank(LARGE)  # is made once, for all children
    for round_ in range(12):
        folder = cache / str(round_)
        start = FORK.Barrier(3)
        children = [FORK.Process(target=build_in_child, args=(folder, start)) for _ in range(2)]
        for child in children:
            child.start()
        start.wait()
        while round_ % 2 and children[0].is_alive() and not list(folder.glob(".*")):
            pass  # every other time, a builder is at work for certain
        time.sleep(moments.uniform(0, 0.01 if round_ % 2 else 0.03))
        children[0].kill()  # SIGKILL
        for child in children:
            child.join(60)
        assert children[1].exitcode == 0
        assert_whole(load_or_build(folder, "toy", "k", never), LARGE)
        left += any(name.startswith(".") for name in names(folder))
    assert left > 0  # else no round killed a builder in the middle


def in_the_middle(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Makes a child, in which this is called, do something when half of the images are written."""
    whole = np.save

    def half(file: Any, images: np.ndarray) -> None:
        file.write(b"half")
        file.flush()
        then()
        file.seek(0)
        whole(file, images)

    monkeypatch.setattr(np, "save", half)


def child_in_the_middle(folder: Path, monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> Any:
    def build() -> None:
        in_the_middle(monkeypatch, then)
        assert_whole(load_or_build(folder, "toy", "k", bank))

    child = FORK.Process(target=build)
    child.start()
    return child


def draft_in(folder: Path) -> Path:
    deadline = time.monotonic() + 20
    while not (found := list(folder.glob(".toy-k.bank-*/images.npy"))) or not found[0].stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found[0].parent


def test_what_a_killed_builder_leaves_goes_after_a_day(cache, monkeypatch):
    child_in_the_middle(cache, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL)).join(20)
    draft = draft_in(cache)
    load_or_build(cache, "toy", "young", bank)
    assert draft.exists()
    for other in (".git", ".toy-k.bank-kept by hand", "toy-k.bank-12345678"):
        (cache / other).mkdir()
    (cache / ".toy-k.bank-linked_1").symlink_to(cache / ".git")
    for path in cache.iterdir():
        os.utime(path, (time.time() - 2 * DAY,) * 2, follow_symlinks=False)
    load_or_build(cache, "toy", "old", bank)
    assert not draft.exists()
    assert names(cache) == [
        ".git",
        ".toy-k.bank-kept by hand",
        ".toy-k.bank-linked_1",
        "toy-k.bank-12345678",
        "toy-old.bank",
        "toy-young.bank",
    ]


@pytest.mark.parametrize("days", [-2, 2])
def test_the_draft_of_a_living_builder_stays_however_old_it_seems(cache, monkeypatch, days):
    go_on = FORK.Event()
    child = child_in_the_middle(cache, monkeypatch, lambda: go_on.wait(20))
    draft = draft_in(cache)
    os.utime(draft, (time.time() + days * DAY,) * 2)
    load_or_build(cache, "toy", "other", bank)
    assert (draft / "images.npy").exists()
    go_on.set()
    child.join(20)
    assert child.exitcode == 0
    load_or_build(cache, "toy", "k", never)
    assert names(cache) == ["toy-k.bank", "toy-other.bank"]
    assert names(cache / "toy-k.bank") == ["classes.json", "images.npy"]


def test_a_draft_of_a_wrong_clock_goes_too(cache, monkeypatch):
    child_in_the_middle(cache, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL)).join(20)
    os.utime(draft_in(cache), (time.time() + 2 * DAY,) * 2)
    load_or_build(cache, "toy", "other", bank)
    assert names(cache) == ["toy-other.bank"]


# ---- a full disk

NEW_USERS, NEW_MOUNTS = 0x10000000, 0x00020000  # unshare's flags
NOT_ALLOWED = 77


def mount_small_disk(folder: Path) -> bool:
    """Mounts a file system of 1 MB for this process alone; whether that is allowed here."""
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(NEW_USERS | NEW_MOUNTS):
        return False
    try:
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path("/proc/self", file).write_text(text)
    except OSError:
        return False
    return not libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"size=1m")


def store_on_a_full_disk(folder: Path) -> None:
    if not mount_small_disk(folder):
        os._exit(NOT_ALLOWED)
    (folder / "filler").write_bytes(bytes(900_000))
    for build in (lambda: bank(LARGE), never):
        assert_whole(load_or_build(folder, "toy", "k", build), LARGE)
    assert names(folder) == ["filler"]


def test_a_full_disk_sends_the_cache_elsewhere_and_says_nothing(tmp_path, cache, capfd):
    child = FORK.Process(target=store_on_a_full_disk, args=(cache,))
    child.start()
    child.join(60)
    if child.exitcode == NOT_ALLOWED:
        pytest.skip("mounting is not allowed here")
    assert child.exitcode == 0
    assert capfd.readouterr() == ("", "")
    assert names(cache) == []  # outside the child
    assert names(tmp_path / "user" / "quickstudy") == ["toy-k.bank"]
