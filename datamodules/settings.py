"""What all data sets are told: which tasks are evaluated, and where the images are kept."""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Evaluation:
    """Validation and test tasks: the same ones for every method and every training seed.

    Those of equal n_way have the same classes, with equal k_shot the same support examples too, and the same first
    queries of each class.

    Args:
        n_way: Classes in a task; None: as in training.
        k_shot: Support examples of each class; None: as in training.
        n_query: Query examples of each class; None: as in training.
        n_val_tasks: Tasks of a validation.
        n_test_tasks: Tasks of a test.
        batch_size: Tasks evaluated at once on a device.
        seed: Seed of the validation and test tasks.
        leaks: Where splits share classes or identical images, an image has two labels, or the checkpoint was trained on
            what is to be scored, "refuse" stops the run, and "warn" prints one line and states it in the results: for
            published data sets that are known to hold a few duplicates.
    """

    n_way: int | None = None
    k_shot: int | None = None
    n_query: int | None = None
    n_val_tasks: int = 200
    n_test_tasks: int = 1000
    batch_size: int = 32
    seed: int = 0
    leaks: Literal["refuse", "warn"] = "refuse"


@dataclass(frozen=True)
class Loading:
    """Where the images are kept and how batches are made.

    Args:
        images_on: "device": a batch is an index lookup on the training device; "cpu": the loader gathers it;
            "auto": "device" where the images take less than half of the device's free memory.
        num_workers: Loader workers; useful where the loader gathers.
        cache_features: Where the learner's backbone is frozen, its features are computed once, kept beside the images'
            cache and looked up in place of images that are not augmented.
    """

    images_on: Literal["auto", "device", "cpu"] = "auto"
    num_workers: int = 0
    cache_features: bool = True


# Checkpoints hold a model's and a data module's arguments and are loaded with weights_only=True.
torch.serialization.add_safe_globals([Evaluation, Loading])
