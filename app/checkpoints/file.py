"""Checkpoints on the disk: written whole or not at all, read without executing anything in them."""

import io
import os
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from app.process.errors import UsageError
from app.runs.folder import LAST, PREVIOUS


class DamagedCheckpointError(UsageError):
    """A file is not a checkpoint, or only a part of one."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes beside the file and renames, so that a killed process, a full disk or a power cut leave the one before.

    Lightning copies from a temporary folder, which on another disk takes a while and may end half-way. The checkpoint
    that last.ckpt replaces is kept as previous.ckpt, for a disk that damages a file later.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint.

        Raises:
            OSError: If the disk is full or fails; what was there before is still there.
        """
        target = Path(path)
        part = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            data = io.BytesIO()  # of a full disk, PyTorch's own writer says only that something failed
            torch.save(checkpoint, data)
            with part.open("wb") as file:
                file.write(data.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            if target.name == LAST:
                _keep(target, target.with_name(PREVIOUS))
            os.replace(part, target)
            _sync_folder(target.parent)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            reason = f"cannot write {os.path.relpath(target)} ({error.strerror}); the one before is kept."
            raise OSError(reason) from error

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Reads a whole checkpoint, whatever is asked for without executing anything."""
        return dict(load_sound(Path(path)))


def load_sound(path: Path) -> Any:
    """Returns what a checkpoint file holds, on the CPU; nothing in it is executed.

    Raises:
        DamagedCheckpointError: If it is not a checkpoint, cut short, or has a wrong checksum.
        UsageError: If it holds anything else than data: loading that could execute it.
        OSError: If it cannot be read now, which says nothing of what is in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # PyTorch does not compare the checksums that it writes
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise DamagedCheckpointError(f"{path} is not a checkpoint, or only a part of one") from error
    if broken:
        raise DamagedCheckpointError(f"{path} is damaged")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch names a dozen reasons in as many types
        if "Weights only load failed" in str(error):
            raise UsageError(f"{path} holds objects whose loading could execute code: it is not loaded") from error
        raise DamagedCheckpointError(f"{path} is not a checkpoint, or only a part of one") from error


def _keep(target: Path, previous: Path) -> None:
    """Gives a file a second name, so that there is always one under its own."""
    if not target.is_file():
        return
    spare = previous.with_name(f".{previous.name}.part")
    spare.unlink(missing_ok=True)
    try:
        os.link(target, spare)
    except OSError:  # a file system without links: for a moment there is only the previous one
        os.replace(target, previous)
    else:
        os.replace(spare, previous)


def _sync_folder(folder: Path) -> None:
    """Makes a rename outlive a power cut, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
