"""Meta-SGD against learn2learn's own."""

import copy

import pytest
import torch
from learn2learn.algorithms import MetaSGD as Reference
from torch.nn import functional as F

from modules import MetaSGD, OuterLoop
from modules.functional.tasks.networks import key_of
from tests.learnable_images import TwoBlocks, arrays, make_episode
from tests.modules.methods import naive_maml


def make(strategy: str = "loop", steps: int = 1) -> MetaSGD:
    torch.manual_seed(0)
    outer = OuterLoop(task_strategy=strategy)  # type: ignore[arg-type]
    return MetaSGD(3, TwoBlocks(), inner_steps=steps, outer=outer).double()


@pytest.mark.parametrize("strategy", ["batched", "vmap", "loop"])
@pytest.mark.parametrize("steps", [1, 3])
def test_the_gradients_of_weights_and_step_sizes_are_learn2learns(strategy: str, steps: int) -> None:
    learner, episode = make(strategy, steps), make_episode(3)
    network = copy.deepcopy(learner.network)
    names = [name for name, _ in network.named_parameters()]
    reference = Reference(network, lr=1.0)
    for own, name in zip(reference.lrs, names, strict=True):
        own.data.copy_(learner.inner_lr[key_of(name)].data)
    losses = []
    for support_x, support_y, query_x, query_y in zip(*arrays(episode), strict=True):
        clone = reference.clone()
        for _ in range(steps):
            clone.adapt(F.cross_entropy(clone(support_x), support_y))
        losses.append(F.cross_entropy(clone(query_x), query_y))
    torch.stack(losses).mean().backward()
    expected = {f"network.{name}": p.grad for name, p in network.named_parameters()}
    expected |= {f"inner_lr.{key_of(name)}": rate.grad for name, rate in zip(names, reference.lrs, strict=True)}
    naive_maml.assert_gradients(learner.batch_gradient(episode).gradients, expected)  # type: ignore[arg-type]


def test_step_sizes_begin_as_uniform_random_numbers_of_the_range() -> None:
    torch.manual_seed(0)
    values = torch.cat([rate.detach().flatten() for rate in MetaSGD().inner_lr.values()])
    assert len(values) > 100_000
    assert values.min() >= 0.005
    assert values.max() <= 0.1
    assert values.mean().item() == pytest.approx(0.0525, abs=3e-4)
    assert values.var().item() == pytest.approx(0.095**2 / 12, rel=0.01)


def test_an_impossible_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"largest_lr must be smallest_lr = 0.1 or more, got 0.05"):
        MetaSGD(smallest_lr=0.1, largest_lr=0.05)
