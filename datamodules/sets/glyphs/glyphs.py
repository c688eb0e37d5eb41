"""Glyphs: the embedded data set, about 2,300 characters drawn by the fonts inside matplotlib. Nothing is downloaded."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.images.augmentation import Augmentation
from datamodules.images.bank import ImageBank
from datamodules.images.bank_data import BankDataModule
from datamodules.images.cache import fingerprint, load_or_build, user_cache
from datamodules.images.input_spec import INK, InputSpec
from datamodules.progress import progress
from datamodules.sets.glyphs.drawing import (
    CANVAS,
    FACES,
    IMAGE_SIZE,
    INK_SIZE,
    ROTATION,
    SCALE,
    SHEAR,
    SHIFT,
    distort,
    draw_face,
)
from datamodules.sets.glyphs.lookalikes import (
    SAME_CHARACTER,
    SAME_FACE,
    distinct_faces,
    lookalikes,
    signatures,
    without_lookalikes,
)
from datamodules.sets.glyphs.scripts import BLOCKS, candidates, split_of
from datamodules.settings import Evaluation, Loading
from datamodules.tasks.task_sizes import Count

IMAGES_PER_HALF = 10
AVERAGE_FACE = -1  # finds characters that are alike although no one font has both, or draws them alike
FORMAT_VERSION = 1  # raise it with every change of the drawing code, so that old caches are left behind


class Glyphs(BankDataModule):
    """Characters of the world's scripts: 28x28 pixels, 20 images each, white ink on black.

    Every character is drawn in up to 12 faces (DejaVu Sans, Sans Mono and Serif; regular, bold, slanted) with a light
    distortion. Lookalikes (Latin A, Greek Alpha, Cyrillic A) are one class, named after the first; characters that
    every face draws alike are left out. Validation and test hold scripts that training never sees. A class's two halves
    show different faces, and an episode takes its support from one and its query from the other.

    Args:
        n_way: Classes in a training task; two numbers, as in [5, 20]: drawn anew for every batch.
        k_shot: Support examples of each class in a training task, 10 at most; two numbers: drawn for every batch.
        n_query: Query examples of each class in a training task, 10 at most.
        meta_batch_size: Tasks of one training batch over all devices, whose number must divide it; for a learner that
            trains on labelled examples, groups of these.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        cache: Folder for the drawn images; None: the user's cache folder.
        augmentation: Random changes of the images of training tasks.
    """

    image_shape = (1, IMAGE_SIZE, IMAGE_SIZE)
    images_per_class, in_halves = IMAGES_PER_HALF, True

    def __init__(
        self,
        n_way: Count = 5,
        k_shot: Count = 1,
        n_query: int = 1,
        meta_batch_size: int = 32,
        evaluation: Evaluation = Evaluation(),
        loading: Loading = Loading(),
        seed: int = 0,
        cache: str | None = None,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        super().__init__(n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation)
        self.save_hyperparameters()
        self.cache = cache

    def build_bank(self) -> ImageBank:
        """All classes, from the cache where they are there already."""
        folder = user_cache() if self.cache is None else Path(self.cache)
        return load_or_build(folder, "glyphs", glyphs_fingerprint(), _draw_on_one_thread)

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        """Whole scripts to each split."""
        splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
        for index, name in enumerate(bank.class_names):
            splits[split_of(name)].append(index)
        return splits

    def input_spec(self) -> dict[str, Any]:
        """Returns what a user's image must be turned into."""
        return InputSpec(self.image_shape, "lanczos", "squash", INK).as_dict()


def glyphs_fingerprint() -> str:
    """Hashes all that decides the images: the fonts, the rasteriser and the parameters."""
    import matplotlib
    from matplotlib import ft2font

    versions = (FORMAT_VERSION, matplotlib.__version__, ft2font.__freetype_version__)
    sizes = (IMAGE_SIZE, CANVAS, INK_SIZE, IMAGES_PER_HALF)
    return fingerprint(versions, FACES, BLOCKS, sizes, (ROTATION, SCALE, SHEAR, SHIFT), (SAME_FACE, SAME_CHARACTER))


def _draw_on_one_thread() -> ImageBank:
    """Draws with one thread: the operations are small, and threads that wait for each other took ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return draw_glyphs()
    finally:
        torch.set_num_threads(threads)


def draw_glyphs() -> ImageBank:
    """Draws all classes; takes some ten seconds on one core."""
    names = candidates()
    with progress("Glyphs: drawing characters", len(FACES)) as advance:
        drawings: dict[int, dict[int, np.ndarray]] = {}  # code point -> face -> drawing
        signature: dict[int, dict[int, Tensor]] = {}  # code point -> face -> signature
        for face, face_name in enumerate(FACES):
            drawn = draw_face(face_name, names.keys())
            rows = signatures(torch.from_numpy(np.stack(list(drawn.values()))))  # (n, D)
            for (code, drawing), row in zip(drawn.items(), rows, strict=True):
                drawings.setdefault(code, {})[face] = drawing
                signature.setdefault(code, {})[face] = row
            advance(1)
    faces = _distinct_faces(signature)
    kept = without_lookalikes([code for code in names if code in faces], _lookalikes(faces, signature))
    images: list[Tensor] = []
    with progress("Glyphs: distorting drawings", len(kept)) as advance:
        for code in kept:
            images.append(_class_images(code, [drawings[code][face] for face in faces[code]]))
            advance(1)
    size = 2 * IMAGES_PER_HALF
    return ImageBank.from_sizes(
        torch.cat(images), [names[code] for code in kept], [size] * len(kept), [IMAGES_PER_HALF] * len(kept)
    )


def _distinct_faces(signature: dict[int, dict[int, Tensor]]) -> dict[int, list[int]]:
    """The faces that draw each character differently, for characters that have two or more.

    To the signatures of these characters their average is added as that of one more face.
    """
    faces = {}
    for code, by_face in signature.items():
        numbers = list(by_face)
        rows = torch.stack(list(by_face.values()))  # (n_faces, D)
        picked = distinct_faces(rows)
        if len(picked) >= 2:  # else support and query could not show different faces
            faces[code] = [numbers[i] for i in picked]
            by_face[AVERAGE_FACE] = rows[picked].mean(0)
    return faces


def _lookalikes(faces: dict[int, list[int]], signature: dict[int, dict[int, Tensor]]) -> list[tuple[int, int]]:
    """Pairs of code points that look alike in some face, or on the average of their faces."""
    pairs: list[tuple[int, int]] = []
    for face in (*range(len(FACES)), AVERAGE_FACE):
        drawn = [code for code in faces if face in signature[code]]
        if drawn:
            rows = torch.stack([signature[code][face] for code in drawn])  # (n, D)
            pairs += [(drawn[i], drawn[j]) for i, j in lookalikes(rows)]
    return pairs


def _class_images(code: int, drawings: list[np.ndarray]) -> Tensor:
    """The images of one class, (2 * IMAGES_PER_HALF, 1, IMAGE_SIZE, IMAGE_SIZE), its halves in different faces."""
    halves = (drawings[0::2], drawings[1::2])
    chosen = [half[i % len(half)] for half in halves for i in range(IMAGES_PER_HALF)]
    number = code * 2 * IMAGES_PER_HALF + torch.arange(2 * IMAGES_PER_HALF)  # its own numbers, whatever else is drawn
    return distort(torch.from_numpy(np.stack(chosen)), number)
