"""A loss or gradient that is not finite ends the training before it reaches the weights, and names its tasks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.episode import Episode
from modules.learner.finite_check import FiniteCheck, NotFiniteError
from modules.learner.outer_gradient import OuterGradient
from tests.learnable_images import make_data
from tests.rank_group import RankGroup
from tests.training_runs import checkpoints, make_learner, make_trainer, same, state_of

BAD_TASKS = (17, 19)  # of step 3, whose tasks are 16 to 23


def poisoned(data: Any) -> Any:
    """Data with an infinite pixel in two tasks' query sets."""
    transfer = data.on_after_batch_transfer

    def with_poison(batch: Any, index: int) -> Episode:
        episode: Episode = transfer(batch, index)
        bad = torch.isin(episode.task_id, torch.tensor(BAD_TASKS)) & data.trainer.training
        episode.query_x[bad, 0, 0, 0, 0] = float("inf")
        return episode

    data.on_after_batch_transfer = with_poison
    return data


def train_into_poison(method: str, **outer: Any) -> tuple[str, Any]:
    learner = make_learner(method, seed=1, **outer)
    trainer = make_trainer(val_check_interval=6)
    with pytest.raises(NotFiniteError) as raised:
        trainer.fit(learner, datamodule=poisoned(make_data(meta_batch_size=8 // outer.get("accumulate_batches", 1))))
    assert trainer.global_step == 2
    return str(raised.value), state_of(learner)


@pytest.mark.parametrize(
    "outer", [{}, {"task_chunk": 3}, {"accumulate_batches": 2}, {"task_strategy": "loop"}], ids=str
)
def test_the_step_and_its_tasks_are_named_and_the_weights_stay(outer: dict[str, Any]) -> None:
    said, state = train_into_poison("protonet", **outer)
    assert "not finite at step 3 (training tasks 16 to 23; at fault: 17, 19)" in said
    clean = make_learner("protonet", seed=1, **outer)
    data = make_data(meta_batch_size=8 // outer.get("accumulate_batches", 1))
    make_trainer(max_steps=2, val_check_interval=6).fit(clean, datamodule=data)
    assert same(state, state_of(clean))


@pytest.mark.parametrize("method", ["maml", "protonet"])
def test_both_ranks_say_the_same(rank_pair: RankGroup, method: str) -> None:
    first, second = rank_pair(train_into_poison, method)
    assert first[0] == second[0]
    assert "at fault: 17, 19)" in first[0]
    assert same(first[1], second[1])


def gradient(loss: float, component: float) -> OuterGradient:
    return OuterGradient({"weight": torch.tensor([1.0, component])}, {}, {"loss": torch.tensor(loss)})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_any_wrong_number_is_found(value: float) -> None:
    check = FiniteCheck()
    assert not check.finds(1, gradient(1.0, 2.0), scaled=False)
    assert check.finds(1, gradient(value, 2.0), scaled=False)
    assert check.finds(1, gradient(1.0, value), scaled=False)
    assert check.finds(1, gradient(value, 2.0), scaled=True)
    assert not check.finds(1, gradient(1.0, value), scaled=True)  # float16's overflow


def test_what_a_gpu_remembers_keeps_a_checkpoint_from_being_written(tmp_path: Path) -> None:
    learner = make_learner("protonet", seed=1)

    def remember(
        step: int, gradient: OuterGradient, scaled: bool
    ) -> bool:  # as on a GPU, where nothing is read at once
        learner._finite._first_wrong = torch.tensor(2 if step >= 2 else 0)
        return False

    learner._finite.finds = remember  # type: ignore[method-assign]
    with pytest.raises(NotFiniteError, match="at step 2 \\(training tasks 8 to 15\\)"):
        make_trainer(*checkpoints(tmp_path)).fit(learner, datamodule=make_data())
    assert not list(tmp_path.iterdir())
