"""Finds faces that draw a character alike, and characters that look alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

SAME_FACE = 0.006  # two faces closer than this draw a character the same
SAME_CHARACTER = 0.045  # two characters closer than this in any face are lookalikes; found by looking at pairs


def signatures(drawings: Tensor) -> Tensor:
    """Blurs and shrinks drawings, so that a hair's breadth of difference in outline counts little.

    Args:
        drawings: (B, 4h, 4w) uint8.

    Returns:
        (B, h * w) float32.
    """
    tap = torch.tensor([1.0, 2.0, 1.0]) / 4
    small = F.avg_pool2d(drawings.unsqueeze(1).float() / 255, 2)  # (B, 1, 2h, 2w)
    blurred = F.conv2d(small, torch.outer(tap, tap)[None, None], padding=1)  # (B, 1, 2h, 2w)
    return F.avg_pool2d(blurred, 2).flatten(1)  # (B, h * w)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances relative to the ink of both: 0 for equal drawings, 1 for drawings that share no ink.

    Args:
        a: (A, D) signatures.
        b: (B, D) signatures.

    Returns:
        (A, B).
    """
    ink = (a * a).sum(1).unsqueeze(1) + (b * b).sum(1)  # (A, B)
    return 1 - 2 * (a @ b.T) / ink


def distinct_faces(signature: Tensor) -> list[int]:
    """Picks the faces of one character that draw it differently from every face picked before.

    Args:
        signature: (n_faces, D), of one character.

    Returns:
        Positions of the picked faces, ascending.
    """
    near = distances(signature, signature) < SAME_FACE  # (n_faces, n_faces)
    picked: list[int] = []
    for face in range(len(signature)):
        if not near[face, picked].any():
            picked.append(face)
    return picked


def lookalikes(signature: Tensor, chunk: int = 1024) -> list[tuple[int, int]]:
    """Pairs of characters that one face draws nearly alike.

    Args:
        signature: (n, D), of n characters in one face.
        chunk: rows compared at once; bounds the memory.

    Returns:
        Pairs (i, j) with i < j.
    """
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(signature), chunk):
        near = distances(signature[start : start + chunk], signature[start:]) < SAME_CHARACTER  # (chunk, n - start)
        i, j = near.triu(diagonal=1).nonzero(as_tuple=True)
        pairs += zip((i + start).tolist(), (j + start).tolist(), strict=True)
    return pairs


def without_lookalikes(order: list[int], pairs: list[tuple[int, int]]) -> list[int]:
    """Keeps a character unless it looks like one kept before it.

    Merging whole chains of lookalikes would join characters that look nothing alike; here a character joins the kept
    one that it looks like itself, and no two kept characters are lookalikes.

    Args:
        order: characters, the preferred ones first.
        pairs: lookalikes.

    Returns:
        The kept characters, in the given order.
    """
    alike: dict[int, set[int]] = {}
    for a, b in pairs:
        alike.setdefault(a, set()).add(b)
        alike.setdefault(b, set()).add(a)
    kept: dict[int, None] = {}  # a set that remembers its order
    for character in order:
        if alike.get(character, set()).isdisjoint(kept):
            kept[character] = None
    return list(kept)
