"""Sinusoid: its functions and points are the papers', and nothing but (seed, split, number) decides them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import Sinusoid
from datamodules.settings import Evaluation
from tests.datamodules.chi_square import as_cell, is_uniform
from tests.datamodules.numbered_images import assert_same, concatenated
from tests.learnable_images import arrays

N_TASKS, CELLS = 4000, 20
PROTOCOLS: list[dict[str, Any]] = [{}, {"protocol": "reptile"}]


def cell_of(values: Tensor, low: float, high: float) -> Tensor:
    """In which of CELLS equal parts of [low, high) each value lies; beyond the ends it is no cell, and a test fails."""
    return ((values.double() - low) / (high - low) * CELLS).floor().long()


def grid_number(x: Tensor) -> Tensor:
    """The number in 0 ... 49 of Reptile's points."""
    number = ((x.double() + 5) / 10 * 49).round().long()
    assert torch.allclose(x, -5 + 10 * number / 49, atol=1e-6)
    return number


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize(("protocol", "largest_phase"), [("maml", math.pi), ("reptile", 2 * math.pi)])
def test_amplitude_and_phase_are_uniform_and_independent(split: str, protocol: Any, largest_phase: float) -> None:
    amplitude, phase = Sinusoid(protocol=protocol).functions(split, torch.arange(N_TASKS))
    cells = cell_of(amplitude, 0.1, 5.0), cell_of(phase, 0.0, largest_phase)
    for values, cell, low, high in zip((amplitude, phase), cells, (0.1, 0.0), (5.0, largest_phase), strict=True):
        assert values.dtype == torch.float64
        assert is_uniform(cell, CELLS)
        middle, spread = (low + high) / 2, (high - low) / math.sqrt(12)
        assert float(values.mean()) == pytest.approx(middle, abs=4 * spread / math.sqrt(N_TASKS))
        assert float(values.std()) == pytest.approx(spread, rel=0.05)
    assert is_uniform(as_cell(torch.stack(cells, dim=1) // 4, 5), 25)


def test_mamls_points_are_uniform_and_those_of_the_query_are_others() -> None:
    episode = Sinusoid().episode("train", torch.arange(N_TASKS))
    x = torch.cat([episode.task.x, episode.query_x], dim=1)[..., 0]  # (T, 20)
    assert is_uniform(cell_of(x, -5.0, 5.0), CELLS)
    assert is_uniform(as_cell(cell_of(x[:, [0, 10]], -5.0, 5.0) // 4, 5), 25)
    assert len(x.unique()) > 0.98 * x.numel()  # float32 has some twice


def test_reptiles_points_are_of_its_grid_and_drawn_without_replacement() -> None:
    episode = Sinusoid(protocol="reptile").episode("train", torch.arange(N_TASKS))
    support, query = grid_number(episode.task.x[..., 0]), grid_number(episode.query_x[..., 0])  # (T, 10) each
    for points in (support, query):
        assert is_uniform(points, 50)
        assert bool((points.sort(1).values.diff(dim=1) > 0).all())
    assert is_uniform(as_cell(torch.stack([support[:, 3], query[:, 3]], dim=1) // 10, 5), 25)  # independent
    assert bool((support.unsqueeze(2) == query.unsqueeze(1)).any())
    whole = Sinusoid(protocol="reptile", k_shot=50, n_query=50).episode("train", torch.arange(3))
    assert (grid_number(whole.task.x[..., 0]).sort(1).values == torch.arange(50)).all()


@pytest.mark.parametrize("oracle", [False, True])
@pytest.mark.parametrize(("protocol", "sign"), [("maml", -1), ("reptile", 1)])
def test_values_are_the_formulas(protocol: Any, sign: int, oracle: bool) -> None:
    data = Sinusoid(protocol=protocol, oracle=oracle)
    task_id = torch.tensor([0, 3, 10**12])
    amplitude, phase = (value.numpy()[:, None] for value in data.functions("val", task_id))
    episode, (x, y) = data.episode("val", task_id), data.curve("val", task_id, 101)
    assert np.allclose(x[0, :, 0], np.linspace(-5, 5, 101))
    for inputs, targets in ((episode.task.x, episode.task.y), (episode.query_x, episode.query_y), (x, y)):
        points = inputs[..., 0].double().numpy()
        assert np.allclose(targets.numpy(), amplitude * np.sin(points + sign * phase), rtol=1e-6, atol=1e-6)
        if oracle:
            assert np.allclose(inputs[..., 1].numpy(), np.broadcast_to(amplitude, points.shape))
            assert np.allclose(inputs[..., 2].numpy(), np.broadcast_to(phase, points.shape))


@pytest.mark.parametrize("oracle", [False, True])
def test_shapes_and_types(oracle: bool) -> None:
    evaluation = Evaluation(k_shot=3, n_query=11)
    data = Sinusoid(k_shot=5, n_query=7, oracle=oracle, evaluation=evaluation)
    width = 3 if oracle else 1
    assert data.input_shape == (width,)
    assert data.input_spec() == {"input_shape": [width]}
    for split, (k_shot, n_query) in {"train": (5, 7), "val": (3, 11), "test": (3, 11)}.items():
        episode = data.episode(split, torch.arange(4))
        assert episode.task.x.shape == (4, k_shot, width)
        assert episode.task.y.shape == (4, k_shot)
        assert episode.query_x.shape == (4, n_query, width)
        assert episode.query_y.shape == (4, n_query)
        assert {values.dtype for values in arrays(episode)} == {torch.float32}
        assert torch.equal(episode.task_id, torch.arange(4))
        assert torch.equal(episode.task.classes, torch.zeros(4, 1, dtype=torch.int64))


@pytest.mark.parametrize("changes", PROTOCOLS)
def test_a_task_depends_on_its_number_alone(changes: dict[str, Any]) -> None:
    data = Sinusoid(**changes)
    together = data.episode("train", torch.arange(37))
    parts = concatenated([data.episode("train", part) for part in torch.arange(37).split(5)])
    assert_same(together, parts)
    backwards = data.episode("train", torch.arange(36, -1, -1))
    assert_same(together, backwards.map(lambda values: values.flip(0)))
    assert_same(together, Sinusoid(**changes).episode("train", torch.arange(37)))


@pytest.mark.parametrize("changes", PROTOCOLS)
def test_more_points_and_the_oracle_leave_the_function_and_the_first_points(changes: dict[str, Any]) -> None:
    few = Sinusoid(k_shot=3, **changes).episode("test", torch.arange(5))
    many = Sinusoid(k_shot=9, **changes).episode("test", torch.arange(5))
    told = Sinusoid(k_shot=3, oracle=True, **changes).episode("test", torch.arange(5))
    assert torch.equal(many.task.y[:, :3], few.task.y)
    assert torch.equal(told.task.x[..., :1], few.task.x)
    assert torch.equal(told.query_y, few.query_y)


@pytest.mark.parametrize("changes", PROTOCOLS)
def test_more_queries_leave_the_function_the_support_and_the_first_queries(changes: dict[str, Any]) -> None:
    few, many = (Sinusoid(n_query=n, **changes).episode("test", torch.arange(5)) for n in (3, 9))
    assert torch.equal(few.task.x, many.task.x)
    assert torch.equal(few.task.y, many.task.y)
    assert torch.equal(few.query_x, many.query_x[:, :3])
    assert torch.equal(few.query_y, many.query_y[:, :3])


def test_splits_and_seeds_are_apart_and_evaluation_knows_no_training_seed() -> None:
    task_id, data = torch.arange(50), Sinusoid(seed=0)
    functions = {split: data.functions(split, task_id)[0] for split in ("train", "val", "test")}
    functions["another seed"] = Sinusoid(seed=1).functions("train", task_id)[0]
    functions["another evaluation"] = Sinusoid(evaluation=Evaluation(seed=1)).functions("val", task_id)[0]
    assert len(torch.cat(list(functions.values())).unique()) == 5 * 50
    assert_same(data.episode("val", task_id), Sinusoid(seed=1).episode("val", task_id))


@pytest.mark.parametrize("changes", PROTOCOLS)
def test_making_a_task_never_waits_for_the_device(changes: dict[str, Any]) -> None:
    # A meta tensor has no values: whatever reads one on the host, or mixes in a tensor made there, raises.
    episode = Sinusoid(oracle=True, **changes).episode("train", torch.arange(8, device="meta"))
    assert {values.device.type for values in episode.tensors()} == {"meta"}
    assert episode.task.x.shape == (8, 10, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("changes", PROTOCOLS)
def test_tasks_do_not_depend_on_the_device(changes: dict[str, Any]) -> None:
    data = Sinusoid(**changes)
    there = data.episode("train", torch.arange(N_TASKS, device="cuda"))
    assert there.task.x.is_cuda
    assert_same(there.map(torch.Tensor.cpu), data.episode("train", torch.arange(N_TASKS)))


def test_protocol_states_what_the_error_depends_on() -> None:
    data = Sinusoid(k_shot=5, evaluation=Evaluation(k_shot=10), oracle=True)
    assert data.protocol() == {
        "data": "Sinusoid",
        "n_way": 1,
        "k_shot": 10,
        "n_query": 10,
        "train_k_shot": 5,
        "protocol": "maml",
        "oracle": True,
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_way": 5}, "n_way must be 1 for Sinusoid, whose tasks are one function each, got 5"),
        ({"evaluation": Evaluation(n_way=2)}, "n_way must be 1 for Sinusoid, whose tasks are one function each, got 2"),
        ({"protocol": "anil"}, "protocol must be one of maml, reptile, got 'anil'"),
        ({"protocol": "reptile", "k_shot": 51}, "k_shot = 51 and n_query = 10 has more than the 50 points"),
        ({"protocol": "reptile", "evaluation": Evaluation(n_query=60)}, "a val task of k_shot = 10 and n_query = 60"),
        ({"k_shot": 0}, "k_shot must be at least 1, got 0"),
        ({"meta_batch_size": 0}, "meta_batch_size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sinusoid(**changes)
