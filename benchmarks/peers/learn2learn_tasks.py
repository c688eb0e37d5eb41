"""learn2learn's Taskset over images in memory, with the transforms of its own Omniglot benchmark."""

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

NAME = "learn2learn Taskset"


def make_batches(
    images: Tensor, labels: Tensor, n_way: int, k_shot: int, n_query: int, n_tasks: int, device: torch.device
) -> Callable[[], object]:
    """Returns what draws T tasks, a list of (images, labels): its loop takes them one by one, so nothing stacks them.

    Args:
        images: (N, C, H, W) float32, normalised already, which spares it a pass over the images.
        labels: (N,) int64.
        n_way: Classes of a task.
        k_shot: Support images of a class.
        n_query: Query images of a class.
        n_tasks: T.
        device: Where the images lie, as in its OnDeviceDataset.

    Raises:
        ModuleNotFoundError: If learn2learn is not installed.
    """
    tasks = taskset(images.to(device), labels, n_way, k_shot + n_query)
    return lambda: [tasks.sample() for _ in range(n_tasks)]


def taskset(images: Tensor, labels: Tensor, n_way: int, n_samples: int) -> Any:
    """Endless tasks of n_way classes with n_samples images each, in the order of omniglot_benchmark.py's transforms.

    Turned characters are classes of their own in `images`, where that file turns whole classes at random.

    Args:
        images: (N, C, H, W) float32.
        labels: (N,) int64.
        n_way: Classes of a task.
        n_samples: Images of a class, support and query together.
    """
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # gym's notice of its end of life
        warnings.simplefilter("ignore")
        import learn2learn as l2l
    dataset = l2l.data.MetaDataset(TensorDataset(images, labels), indices_to_labels=dict(enumerate(labels.tolist())))
    transforms = l2l.data.transforms
    return l2l.data.Taskset(
        dataset,
        [
            transforms.FusedNWaysKShots(dataset, n=n_way, k=n_samples),
            transforms.LoadData(dataset),
            transforms.RemapLabels(dataset),
            transforms.ConsecutiveLabels(dataset),
        ],
    )
