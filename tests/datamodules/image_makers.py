"""Image files that tests make: pictures of known pixels, in folders of classes."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, height: int = 12, width: int = 12, channels: int = 3) -> np.ndarray:
    """Pixels (H, W, C) uint8 that differ from number to number and have no symmetry."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def save_classes(root: Path, sizes: dict[str, int], suffix: str = ".png", first: int = 0) -> Path:
    """Writes folders of pictures, numbered through all classes from `first` on; returns the root."""
    number = first
    for name, size in sizes.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(size):
            Image.fromarray(picture(number)).save(folder / f"{i:03}{suffix}")
            number += 1
    return root
