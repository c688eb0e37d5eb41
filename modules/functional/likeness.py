"""The likeness of an image to known images: distances between features that are made comparable, and their ranks."""

import torch
from torch import Tensor

MOST_DIRECTIONS = 64  # of one layer's features that are kept
# Of a covariance towards a multiple of the identity: it is regular with few examples, and what hardly varies among
# them, as the tone of the background, does not decide alone.
SHRINKAGE = 0.3


def map_statistics(maps: Tensor) -> Tensor:
    """The mean and the standard deviation of each channel over a layer's positions.

    Args:
        maps: (B, C, H, W), tokens (B, N, C), or vectors (B, C), which are returned as they are.

    Returns:
        (B, 2 C), or (B, C) of vectors; float32.

    Example:
        >>> map_statistics(torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 6])
    """
    values = maps.float()
    if values.dim() == 2:
        return values
    places = values.flatten(2) if values.dim() == 4 else values.transpose(1, 2)  # (B, C, positions)
    return torch.cat([places.mean(2), places.std(2, correction=0)], dim=1)


def fit_whitening(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the map that makes features uncorrelated and of variance 1.

    Where there are many, it keeps some directions that are drawn at random.

    Args:
        features: (N, D) of known images.

    Returns:
        Their mean (D,) and a transform (D, K), K at most `MOST_DIRECTIONS`: (x - mean) @ transform is white.

    Example:
        >>> mean, transform = fit_whitening(torch.randn(50, 3))
        >>> transform.shape
        torch.Size([3, 3])
    """
    values = features.double()
    mean = values.mean(0)
    directions = torch.eye(values.shape[1], dtype=torch.float64, device=values.device)  # (D, D)
    if values.shape[1] > MOST_DIRECTIONS:
        drawn = torch.randn(values.shape[1], MOST_DIRECTIONS, generator=torch.Generator().manual_seed(0))
        directions = torch.linalg.qr(drawn.to(directions)).Q  # (D, K)
    projected = (values - mean) @ directions  # (N, K)
    covariance = projected.T @ projected / len(projected)
    size = covariance.diagonal().mean().clamp(min=1e-12)
    identity = torch.eye(len(covariance), dtype=torch.float64, device=values.device)
    factor = torch.linalg.cholesky((1 - SHRINKAGE) * covariance + SHRINKAGE * size * identity)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)  # (K, K)
    return mean.float(), (directions @ inverse.T).float()


def distance_to_known(queries: Tensor, support: Tensor) -> Tensor:
    """Returns the distances of queries from their support, and from the middle of all known images.

    The mean of two squares: the distance to the nearest support image, and to the middle of the known images, which
    two images that are nothing like those, yet like each other, do not escape; the latter counted twice, as two
    independent white points lie apart.

    Args:
        queries: (Q, K) white features.
        support: (S, K) white features.

    Returns:
        (Q,), in units of what is expected of a known image.

    Example:
        >>> distance_to_known(torch.zeros(2, 4), torch.zeros(3, 4))
        tensor([0., 0.])
    """
    to_support = torch.cdist(queries, support).min(1).values.square()  # (Q,)
    to_middle = 2 * queries.square().sum(1)  # (Q,)
    return ((to_support + to_middle) / (4 * queries.shape[1])).sqrt()


def share_as_far(distances: Tensor, known: Tensor) -> Tensor:
    """The share of known distances that are at least as large as each of some, where each itself counts as one of them.

    So what is known of few says nothing of small shares: of n known distances none is below 1 / (n + 1).

    Args:
        distances: (Q,).
        known: (N,).

    Returns:
        (Q,) in (0, 1].

    Example:
        >>> share_as_far(torch.tensor([0.0, 2.5]), torch.tensor([1.0, 2.0, 3.0, 4.0]))
        tensor([1.0000, 0.6000])
    """
    ranked = known.sort().values
    at_least = len(ranked) - torch.searchsorted(ranked, distances.to(ranked).contiguous())  # (Q,)
    return (at_least + 1) / (len(ranked) + 1)
