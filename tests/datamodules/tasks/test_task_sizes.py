"""Training tasks of varying size: drawn by batch, whichever rank asks, and refused where they cannot be."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from datamodules import Sinusoid
from datamodules.settings import Evaluation
from datamodules.tasks.task_sizes import TaskSizes, largest
from modules import MAML, ProtoNet
from tests.datamodules.chi_square import is_uniform
from tests.learnable_images import TwoBlocks, make_data
from tests.training_runs import make_trainer, same, state_of

SIZES = {"n_way": [2, 5], "k_shot": [1, 3], "n_query": 2}
HELD_OUT = Evaluation(n_way=3, k_shot=1, n_val_tasks=4, n_test_tasks=4)


def test_each_size_is_drawn_equally_often_whatever_the_other_one_is() -> None:
    sizes = TaskSizes.of([5, 8], [1, 3], 2)
    drawn = [sizes.of_batch(0, batch) for batch in range(3000)]
    assert {shape.n_query for shape in drawn} == {2}
    assert is_uniform(torch.tensor([3 * (shape.n_way - 5) + shape.k_shot - 1 for shape in drawn]), 12)


def test_sizes_are_a_function_of_seed_and_batch() -> None:
    sizes = TaskSizes.of([5, 20], [1, 5], 2)
    first, again, other = ([sizes.of_batch(seed, batch) for batch in range(20)] for seed in (0, 0, 1))
    assert first == again != other
    assert sizes.largest.n_way == 20
    assert not TaskSizes.of(5, [2, 2], 1).vary


class Shapes(pl.Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        n_way = batch.task.classes.shape[1]
        assert batch.query_y.shape[1] == 2 * n_way
        self.seen.append((n_way, batch.task.y.shape[1] // n_way))


def fit(steps: int, checkpoint: Any = None, *callbacks: pl.Callback) -> ProtoNet:
    torch.manual_seed(0)
    learner = ProtoNet(TwoBlocks(running_stats=True))
    trainer = make_trainer(*callbacks, max_steps=steps, val_check_interval=4)
    trainer.fit(learner, datamodule=make_data(**SIZES, evaluation=HELD_OUT), ckpt_path=checkpoint, weights_only=True)
    return learner


def test_training_takes_another_size_in_every_batch_and_resumes_exactly(tmp_path: Any) -> None:
    shapes, rest = Shapes(), Shapes()
    save = pl.callbacks.ModelCheckpoint(tmp_path, "after-{step}", save_top_k=-1, every_n_train_steps=4)
    whole = fit(8, None, shapes, save)
    sizes = TaskSizes.of([2, 5], [1, 3], 2)
    assert shapes.seen == [(s.n_way, s.k_shot) for s in (sizes.of_batch(0, batch) for batch in range(8))]
    assert len(set(shapes.seen)) > 2
    resumed = fit(8, tmp_path / "after-step=4.ckpt", rest)
    assert rest.seen == shapes.seen[4:]
    assert same(state_of(resumed), state_of(whole))


def test_every_rank_sees_the_size_of_its_batch() -> None:
    data = make_data(**SIZES, evaluation=HELD_OUT)
    data.setup("fit")
    whole = data.episode("train", torch.arange(8, 16))
    halves = [data.episode("train", torch.arange(start, start + 4)) for start in (8, 12)]
    assert torch.equal(torch.cat([half.task.x for half in halves]), whole.task.x)
    with pytest.raises(ValueError, match=r"different batches have different sizes: .* got 2 batches of 8"):
        data.episode("train", torch.arange(4, 12))


def test_a_sinusoid_varies_its_points() -> None:
    data = Sinusoid(k_shot=[2, 9], meta_batch_size=4, evaluation=Evaluation(k_shot=10))
    counts = {data.episode("train", torch.arange(4 * b, 4 * b + 4)).task.y.shape[1] for b in range(40)}
    assert counts == set(range(2, 10))
    assert data.episode("test", torch.arange(3)).task.y.shape == (3, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_way": [5, 2]}, r"n_way must be a number, or the smallest and the largest one, as in .*: got \[5, 2\]"),
        ({"k_shot": [1, 2, 3]}, r"k_shot must be a number, or .* got \[1, 2, 3\]"),
        ({"k_shot": [0, 2]}, r"k_shot must be at least 1, got \[0, 2\]"),
        ({"n_way": [2, 5]}, r"n_way = \[2, 5\] is of training: set evaluation.n_way to the size that is evaluated"),
    ],
)
def test_what_is_no_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_data(**arguments)


def test_a_learner_with_a_fixed_number_of_outputs_is_refused() -> None:
    data = make_data(**SIZES, evaluation=Evaluation(n_way=5, k_shot=1))
    with pytest.raises(ValueError, match=r"MAML's output layer has a fixed number .* data.n_way = \[2, 5\]"):
        make_trainer().fit(MAML(5, TwoBlocks()), datamodule=data)
    varied = make_data(n_way=3, k_shot=[1, 3], evaluation=HELD_OUT)
    make_trainer(max_steps=2).fit(MAML(3, TwoBlocks()), datamodule=varied)


def test_the_results_state_the_sizes_of_training() -> None:
    protocol = make_data(**SIZES, evaluation=HELD_OUT).protocol()
    assert (protocol["n_way"], protocol["train_n_way"], protocol["train_k_shot"]) == (3, [2, 5], [1, 3])


def test_a_network_has_an_output_for_each_class_of_the_largest_task() -> None:
    assert (largest(5), largest([5, 20]), largest([])) == (5, 20, 0)
