"""What a learner's adaptation and prediction pass through its networks, and how tasks are computed because of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules import ANIL, ESMAML, LEO, MAML, Conv4, FromScratch, JointTraining, Learner, OuterLoop, ProtoNet, Reptile
from modules.functional.tasks.layout import choose_chunk
from modules.learner.passes import Pass, Passes
from modules.learner.task_chunks import choose_strategy, passes_of_one_task
from tests.every_learner import make_small
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.training_runs import make_learner, make_trainer

IMAGE, FEATURES = (1, 8, 8), (16,)
BODY, HEAD = 4 * 16 + 4 * 4, 3  # what the convolutions of a TwoBlocks and a head of three classes put out for an image
S, Q = 6, 6  # images of a task of `make_episode`


def passes_of(learner: Learner, **sizes: Any) -> Passes:
    episode = make_episode(1, torch.float32, **sizes)
    return passes_of_one_task(learner, learner.with_noise(episode))


def passes_through(network: nn.Module, x: Tensor) -> Passes:
    """Of a learner with this network, which is applied to x (T, B, *input_shape)."""
    learner = Learner(network, OuterLoop())
    return learner.passes_of(lambda: learner.run(learner.variables(len(x)), "network", x))


def names_of(learner: Learner, passes: Passes) -> list[tuple[str, tuple[int, ...]]]:
    names = {layer: name for name, layer in learner.named_modules()}
    return [(names[network], tuple(shape)) for network, shape in passes.networks]


def test_features_are_counted_layer_by_layer() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 7))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert passes_through(network, torch.rand(2, 5, 1, 8, 8)).features == 2 * 5 * (3 * 6 * 6 + 7)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_layer_that_is_used_twice_is_counted_twice() -> None:
    layer = nn.Linear(4, 4)
    assert passes_through(nn.Sequential(layer, layer), torch.rand(1, 1, 4)).features == 8
    assert layer.weight.device.type == "cpu"
    assert not layer._forward_hooks


class LooksAtValues(nn.Module):
    """Cannot be traced without values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        assert bool(x.isfinite().all())
        return self.layer(x)


def test_a_network_that_looks_at_its_values_is_counted_and_batched() -> None:
    passes = passes_through(LooksAtValues(), torch.rand(1, 2, 4))
    assert passes.features == 8
    assert choose_strategy(passes, 30) == "batched"


class OwnWeights(nn.Module):
    """Multiplies by a layer's weights without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.layer.weight[0]


def test_a_network_whose_features_cannot_be_counted_takes_all_tasks_at_once() -> None:
    passes = passes_through(OwnWeights(), torch.rand(1, 2, 4))
    assert passes.features == 0
    assert choose_chunk(30, passes.features, "cpu") == 30


@pytest.mark.parametrize("training", [False, True])
def test_what_is_tried_on_a_copy_of_a_network_is_no_pass(training: bool) -> None:
    """Whether it treats each example alone is found out at its first use."""
    learner = ProtoNet(TwoBlocks(running_stats=True)).train(training)
    assert [passes_of(learner).features for _ in range(3)] == [(S + Q) * BODY] * 3


@pytest.mark.parametrize(
    ("make", "features", "networks"),
    [
        (lambda body: ProtoNet(body), (S + Q) * BODY, [("network", IMAGE)]),
        (lambda body: MAML(3, body, inner_steps=5), (S + Q) * (BODY + HEAD), [("network", IMAGE)]),
        (lambda body: MAML(3, body, inner_steps=0), Q * (BODY + HEAD), [("network", IMAGE)]),
        (
            lambda body: ANIL(3, body, inner_steps=5),
            (S + Q) * (BODY + HEAD),
            [("network.backbone", IMAGE), ("network.head", FEATURES), ("network", IMAGE)],
        ),
        (
            lambda body: LEO(body, 4, 2, finetuning_steps=2),
            (S + Q) * BODY + S * 4 + S * S * 3 * 8 + 3 * 32 * (1 + 1),
            [("network", IMAGE), ("encoder", FEATURES), ("relation", (8,)), ("decoder", (4,))],
        ),
    ],
    ids=["protonet", "maml", "maml without steps", "anil", "leo"],
)
def test_the_networks_of_a_learner(
    make: Callable[[TwoBlocks], Learner], features: int, networks: list[tuple[str, tuple[int, ...]]]
) -> None:
    learner = make(TwoBlocks(running_stats=True)).train()
    passes = passes_of(learner)
    assert names_of(learner, passes) == networks
    assert passes.features == features
    assert passes.sets_of_weights == 1


@pytest.mark.parametrize(("training", "inner_batch_size"), [(True, 4), (False, 5)])
def test_mini_batches_cost_what_they_hold(training: bool, inner_batch_size: int) -> None:
    learner = Reptile(3, TwoBlocks(), inner_batch_size=4, eval_inner_batch_size=5).train(training)
    passes = passes_of(learner)
    assert passes.features == (inner_batch_size + Q) * (BODY + HEAD)


@pytest.mark.parametrize("kind", [FromScratch, JointTraining])
def test_evaluation_has_steps_of_its_own(kind: Callable[..., Learner]) -> None:
    learner = kind(3, TwoBlocks())
    assert passes_of(learner.train()).features <= passes_of(learner.eval()).features == (S + Q) * (BODY + HEAD)


@pytest.mark.parametrize(
    ("training", "adapts", "sets"), [(True, "network", 24), (True, "head", 24), (False, "network", 4)]
)
def test_several_sets_of_weights_for_each_task(training: bool, adapts: Any, sets: int) -> None:
    """In training each of two pairs of initialisations is adapted by three pairs of directions."""
    learner = ESMAML(3, TwoBlocks(running_stats=True), directions=2, inner_directions=3, adapts=adapts).train(training)
    learner.inner_directions = 3 if training else 2
    passes = passes_of(learner)
    assert passes.sets_of_weights == sets
    assert choose_strategy(passes, 1) == "batched"
    if adapts == "network":
        initial = 4 if training else 1
        assert passes.features == (sets * S + initial * Q) * (BODY + HEAD)
    else:
        assert passes.features == 4 * (S + Q) * BODY + (sets * S + 4 * Q) * HEAD


@pytest.mark.parametrize(
    ("backbone", "n_tasks", "expected"),
    [(TwoBlocks(), 8, "batched"), (TwoBlocks(), 1, "loop"), (TwoBlocks(activation=nn.PReLU), 8, "vmap")],
)
def test_the_strategy(backbone: TwoBlocks, n_tasks: int, expected: str) -> None:
    assert choose_strategy(passes_of(ProtoNet(backbone)), n_tasks) == expected


def test_one_network_without_a_batched_form_is_enough() -> None:
    batched, not_batched = Pass(nn.Linear(4, 4), torch.Size((4,))), Pass(nn.PReLU(4), torch.Size((4,)))
    passes = Passes()
    passes.networks = [batched]
    assert choose_strategy(passes, 2) == "batched"
    passes.networks = [batched, not_batched]
    assert choose_strategy(passes, 2) == "vmap"


def test_small_tasks_are_computed_at_once_and_large_ones_alone() -> None:
    images = torch.rand(1, 80, 1, 8, 8)
    assert choose_chunk(8, passes_through(TwoBlocks(), images).features, "cpu") == 8
    large = Conv4(filters=64, image_size=84, downsample="pool")
    assert choose_chunk(4, passes_through(large, torch.rand(1, 80, 1, 84, 84)).features, "cpu") == 1


def test_memory_that_does_not_hold_one_task_tells_nothing() -> None:
    learner = make_learner("maml", seed=1)

    def fail(*_: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    learner.trial = fail  # type: ignore[method-assign, assignment]
    passes = passes_of(learner)
    assert (passes.features, passes.networks) == (0, [])
    assert learner._passes is None


def test_a_failure_of_another_kind_is_no_lack_of_memory() -> None:
    learner = make_learner("maml", seed=1)

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    learner.trial = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        passes_of(learner)
    assert learner._passes is None


def test_training_and_evaluation_are_laid_out_by_what_they_pass() -> None:
    learner = make_small(ESMAML, seed=1).float()
    make_trainer(max_steps=1, val_check_interval=1).fit(learner, datamodule=make_data(meta_batch_size=1))
    assert (learner.task_strategy, learner.task_chunk) == ("batched", 1)
