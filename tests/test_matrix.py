"""How tasks are computed changes no result: strategy x chunk x processes x resumed give equal weights and buffers.

All of it for three methods; tests/modules/contract/ tries a part of it on every learner.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.learnable_images import make_data
from tests.rank_group import RankGroup
from tests.training_runs import (
    METHODS,
    State,
    checkpoints,
    largest_difference,
    make_learner,
    make_trainer,
    same,
    state_of,
)

TOLERANCE = 1e-10
OUTER: dict[str, dict[str, Any]] = {
    "maml": {"lr": 0.01, "clip_norm": 0.5},
    "reptile": {"lr": 1.0},
    "protonet": {"lr": 0.01, "clip_norm": 0.5},
    "fomaml": {"lr": 0.01, "clip_value": 0.05},
}


class Cell(NamedTuple):
    method: str
    task_strategy: str
    task_chunk: int | None
    n_ranks: int


def train(cell: Cell, folder: Path, seed: int, checkpoint: str | None = None) -> State:
    """Six outer steps, or those that a checkpoint leaves to do."""
    layout = {"task_strategy": cell.task_strategy, "task_chunk": cell.task_chunk}
    learner = make_learner(cell.method, seed, **OUTER[cell.method], **layout)
    trainer = make_trainer(*([] if checkpoint else checkpoints(folder)), precision="64-true")
    trainer.fit(learner, datamodule=make_data(), ckpt_path=checkpoint and folder / checkpoint, weights_only=True)
    assert trainer.global_step == 6
    return state_of(learner)


def train_and_resume(cell: Cell, folder: Path) -> list[State]:
    """A whole run, one resumed after a step, one resumed from a validation; both with other initial weights."""
    whole = train(cell, folder, seed=1)
    resumed = [
        train(cell, folder, seed, f"{name}.ckpt") for seed, name in ((2, "after-step=4"), (3, "validated-step=3"))
    ]
    return [whole, *resumed]


def cells() -> list[Cell]:
    strategies = {method: ["loop", "vmap", "batched"] + ["learn2learn"] * method.endswith("maml") for method in METHODS}
    whole = [
        Cell(method, strategy, chunk, n_ranks)
        for method in METHODS
        for strategy in strategies[method]
        for chunk in (None, 3)
        for n_ranks in (1, 2)
    ]
    return [*whole, Cell("fomaml", "batched", 3, 2), Cell("fomaml", "vmap", None, 1)]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, State]:
    """Every method's whole run task by task, in one process and one chunk."""
    return {m: train(Cell(m, "loop", None, 1), tmp_path_factory.mktemp(m), seed=1) for m in OUTER}


@pytest.mark.parametrize("cell", cells(), ids=lambda cell: "-".join(map(str, cell)))
def test_every_way_of_computing_gives_the_same_weights_and_buffers(
    cell: Cell, references: dict[str, State], rank_pair: RankGroup, tmp_path: Path
) -> None:
    ranks = [train_and_resume(cell, tmp_path)] if cell.n_ranks == 1 else rank_pair(train_and_resume, cell, tmp_path)
    whole = ranks[0][0]
    assert any("running_var" in name for name in whole)
    assert largest_difference(whole, references[cell.method]) < TOLERANCE
    for runs in ranks:
        for run in runs:
            assert same(run, whole)
