"""Distances, densities and losses are not computed in less than float32."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from datamodules.objective import cross_entropy, squared_error
from modules.functional.full_precision import in_full_precision
from modules.functional.prototypes import class_means, cosine_similarity, inner_products, squared_euclidean
from modules.methods.leo import divergence_at, orthogonality_penalty, split_gaussian
from tests.learnable_images import make_episode
from tests.training_runs import make_learner

LABELS = torch.tensor([[0, 1, 2, 0, 1, 2]]).expand(2, -1)
PROMISED: dict[str, Callable[[Tensor], Any]] = {  # of numbers (2, 6, 4)
    "class_means": lambda x: class_means(x, LABELS, 3),
    "cosine_similarity": lambda x: cosine_similarity(x, x[:, :3]),
    "inner_products": lambda x: inner_products(x, x[:, :3]),
    "squared_euclidean": lambda x: squared_euclidean(x, x[:, :3] + 0.01),
    "split_gaussian": lambda x: torch.cat(split_gaussian(x, 0.1)),
    "divergence_at": lambda x: divergence_at(x, x.abs() + 0.1, x / 3),
    "orthogonality_penalty": lambda x: orthogonality_penalty(x[0]),
    "cross_entropy": lambda x: cross_entropy(x, LABELS),
    "squared_error": lambda x: squared_error(x[..., :1], x[..., 1].float()),
}


def numbers(dtype: torch.dtype) -> Tensor:
    values = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return values.to(torch.bfloat16).to(dtype)  # that bfloat16 holds too


@pytest.mark.parametrize("name", PROMISED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [False, True])
def test_less_precision_gives_what_float64_gives(name: str, dtype: torch.dtype, autocast: bool) -> None:
    expected = PROMISED[name](numbers(torch.float64))
    assert expected.dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = PROMISED[name](numbers(dtype))
    assert found.dtype == torch.float32
    if dtype == torch.float32 or name not in ("squared_euclidean", "divergence_at"):  # which round their own arguments
        torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROMISED)
def test_float64_stays_inside_autocast(name: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = PROMISED[name](numbers(torch.float64))
    torch.testing.assert_close(found, PROMISED[name](numbers(torch.float64)), rtol=0, atol=0)


def test_names_and_other_arguments_pass() -> None:
    @in_full_precision
    def total(x: Tensor, times: int, *, y: Tensor) -> Tensor:
        return x.sum() * times + y

    half = torch.ones(3, dtype=torch.bfloat16)
    assert total(half, 2, y=torch.tensor(1)).dtype == torch.float32
    assert total(x=half, times=2, y=half[0]) == 7


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_protonets_distances_under_autocast_are_those_of_its_embeddings(distance: str) -> None:
    """The embedding is bfloat16's; from there on nothing is lost."""
    learner: Any = make_learner("protonet", seed=1).eval()
    learner.distance = distance
    learner.scale = nn.Parameter(torch.tensor(10.0))
    episode = make_episode(2, k_shot=2, n_query=3)
    support, query = episode.task.x.float(), episode.query_x.float()
    params = learner.variables(2)
    with torch.autocast("cpu", torch.bfloat16):
        embedded = [learner.run(params, "network", x) for x in (support, query)]
        (state,) = learner.adapt(params, episode.task._replace(x=support), 0)
        logits = learner.predict(params, state, query)
    assert embedded[0].dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    prototypes = class_means(embedded[0].double(), episode.task.y, 3)
    expected = learner.logits(params, embedded[1].double(), prototypes)
    torch.testing.assert_close(logits, expected.float(), rtol=1e-5, atol=1e-4)
