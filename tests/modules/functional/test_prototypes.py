"""Prototypes and distances against plain loops."""

import torch

from modules.functional.prototypes import class_means, squared_euclidean


def test_class_means_are_means_over_each_classes_own_examples() -> None:
    embeddings = torch.rand(2, 6, 4, dtype=torch.float64)
    labels = torch.tensor([[0, 0, 1, 1, 2, 2], [2, 1, 2, 2, 0, 2]])
    means = class_means(embeddings, labels, 3)
    for t in range(2):
        for label in range(3):
            torch.testing.assert_close(means[t, label], embeddings[t][labels[t] == label].mean(0))


def test_squared_euclidean_is_cdist_squared() -> None:
    queries, prototypes = torch.rand(2, 5, 4, dtype=torch.float64), torch.rand(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(squared_euclidean(queries, prototypes), torch.cdist(queries, prototypes).square())


def test_small_distances_far_from_the_origin_do_not_cancel() -> None:
    queries = torch.full((1, 1, 4), 1000.0)
    assert squared_euclidean(queries, queries + 2**-10).item() == 4 * 2**-20
