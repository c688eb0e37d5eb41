"""Class prototypes and distances to them."""

import torch
from torch import Tensor
from torch.nn import functional

from modules.functional.full_precision import in_full_precision


@in_full_precision
def class_means(embeddings: Tensor, labels: Tensor, n_way: int) -> Tensor:
    """The mean embedding of each class of each task; classes may have different numbers of examples.

    Args:
        embeddings: (T, S, D).
        labels: (T, S), int64 in [0, n_way); every class has an example.
        n_way: Number of classes.

    Returns:
        (T, n_way, D), in float32 at least, under mixed precision too.

    Reference:
        Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, equation (1).
    """
    one_hot = functional.one_hot(labels, n_way).to(embeddings.dtype)  # (T, S, n_way)
    sums = torch.einsum("tsn,tsd->tnd", one_hot, embeddings)  # (T, n_way, D)
    return sums / one_hot.sum(1).unsqueeze(-1)


@in_full_precision
def cosine_similarity(queries: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of the angle between each query and each prototype of its task.

    Args:
        queries: (T, Q, D).
        prototypes: (T, N, D).

    Returns:
        (T, Q, N), in [-1, 1], in float32 at least, under mixed precision too; 0 for a vector of zeros.

    Reference:
        Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018, equation (5).
    """
    unit_queries, unit_prototypes = functional.normalize(queries, dim=-1), functional.normalize(prototypes, dim=-1)
    return unit_queries @ unit_prototypes.transpose(1, 2)  # (T, Q, D) x (T, D, N) -> (T, Q, N)


@in_full_precision
def inner_products(queries: Tensor, rows: Tensor) -> Tensor:
    """The inner product of each query with each row of its task's linear classifier.

    Args:
        queries: (T, Q, D).
        rows: (T, N, D).

    Returns:
        (T, Q, N), in float32 at least, under mixed precision too.
    """
    return queries @ rows.transpose(1, 2)


@in_full_precision
def squared_euclidean(queries: Tensor, prototypes: Tensor) -> Tensor:
    """Squared Euclidean distance of each query to each prototype of its task.

    Args:
        queries: (T, Q, D).
        prototypes: (T, N, D).

    Returns:
        (T, Q, N), in float32 at least, under mixed precision too. Differences are formed directly: |a|^2 - 2ab + |b|^2
        would cancel.
    """
    return (queries.unsqueeze(2) - prototypes.unsqueeze(1)).square().sum(-1)  # (T, Q, N, D) -> (T, Q, N)
