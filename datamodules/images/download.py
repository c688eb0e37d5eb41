"""Downloads a file, checked by its MD5 sum and put in place whole or not at all."""

import hashlib
import os
import tempfile
import urllib.request
from pathlib import Path

from datamodules.progress import progress

BLOCK_BYTES = 1 << 16
TIMEOUT = 30.0  # seconds without an answer


def download(url: str, md5: str, target: Path) -> None:
    """Downloads a file beside its target and renames it when it is whole.

    Args:
        url: what to download.
        md5: its MD5 sum in hexadecimal.
        target: the file to make; its folder is made where missing.

    Raises:
        OSError: If the network or the disk fails, or the content has another sum.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.md5(usedforsecurity=False)
    handle, draft = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            with progress(f"downloading {target.name}, bytes", total) as advance:
                while block := answer.read(BLOCK_BYTES):
                    digest.update(block)
                    file.write(block)
                    advance(len(block))
        if digest.hexdigest() != md5:
            raise OSError(f"what came has the MD5 sum {digest.hexdigest()} instead of {md5}")
        os.chmod(draft, 0o644)  # mkstemp makes it private; the data may be shared
        os.replace(draft, target)
    finally:
        Path(draft).unlink(missing_ok=True)
