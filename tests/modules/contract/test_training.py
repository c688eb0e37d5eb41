"""How every learner trains: in every layout to the same weights, in less precision, and with what it logs of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from modules import Learner
from modules.learner.task_chunks import passes_of_one_task
from tests.every_learner import LEARNERS, OF_IMAGES, data_of, every, leave_out, make_suited
from tests.gradients import assert_nearly_equal, gradients_of
from tests.modules.contract.checks import check_arguments, check_buffers, check_every_parameter_learns
from tests.modules.contract.training import Layout, Training, train, train_and_resume, with_few_tasks
from tests.rank_group import RankGroup
from tests.scored_tasks import score_tasks
from tests.training_runs import largest_difference, make_trainer, same, state_of

TOLERANCE = 1e-10


@pytest.fixture(autouse=True)
def _left_out(request: pytest.FixtureRequest) -> None:
    leave_out(request.getfixturevalue("kind"), request)


@pytest.fixture(scope="module")
def trainings() -> dict[type[Learner], Training]:
    """What has been trained so far, task by task in one process and one chunk."""
    return {}


@pytest.fixture
def trained(
    kind: type[Learner], trainings: dict[type[Learner], Training], tmp_path_factory: pytest.TempPathFactory
) -> Training:
    if kind not in trainings:
        trainings[kind] = train(kind, Layout("loop", None, 1), tmp_path_factory.mktemp(kind.__name__), seed=1)
    found = trainings[kind]
    found.learner.eval()
    assert same(state_of(found.learner), found.state)
    return found


@pytest.fixture
def double_by_default() -> Iterator[None]:
    """What is made has weights of double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("layout", [Layout("batched", 3, 2), Layout("vmap", None, 1)], ids=lambda layout: layout[0])
@every()
def test_every_way_of_computing_gives_the_same_weights_and_buffers(
    kind: type[Learner], layout: Layout, trained: Training, rank_pair: RankGroup, tmp_path: Path
) -> None:
    """Also where it is resumed after a step, and from a validation."""
    if layout.n_ranks == 1:
        ranks = [train_and_resume(kind, layout, tmp_path)]
    else:
        ranks = rank_pair(train_and_resume, kind, layout, tmp_path)
    whole = ranks[0][0]
    assert any("running_var" in name for name in whole)
    assert largest_difference(whole, trained.state) < TOLERANCE
    assert all(same(run, whole) for runs in ranks for run in runs)


@every()
def test_every_parameter_that_is_trained_learns(kind: type[Learner], trained: Training) -> None:
    episode = trained.data.episode("train", torch.arange(8)).map(lambda x: x.double() if x.is_floating_point() else x)
    check_every_parameter_learns(trained.learner, episode)


@every()
def test_a_checkpoint_keeps_the_arguments(kind: type[Learner], trained: Training) -> None:
    check_arguments(trained.learner)


@every()
def test_training_leaves_the_shape_of_everything(kind: type[Learner], trained: Training) -> None:
    check_buffers(trained.learner)
    fresh = make_suited(kind)[0].state_dict()
    assert all(trained.state[name].shape == value.shape for name, value in fresh.items())
    weights = {name for name, _ in trained.learner.named_parameters()}
    assert any("running_var" in name for name in trained.state.keys() - weights)


@every()
def test_train_loss_is_what_a_validation_logs(
    kind: type[Learner], trained: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same task, where training and evaluation adapt alike: as many steps, no statistics of a batch."""
    learner, data = trained.learner, trained.data
    episode = data.episode("train", torch.arange(3)).map(lambda x: x.double() if x.is_floating_point() else x)
    learner.train()
    for layer in learner.modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.eval()
    _, metrics = learner.outer_gradients(learner.variables(3), learner.with_noise(episode))
    assert {f"train/{name}" for name in metrics} <= trained.trainer.callback_metrics.keys()
    assert learner.training_loss in metrics
    if "loss" not in metrics:  # it adapts to no task in training
        assert learner.trains_on == "examples" or learner.inner_steps < learner.eval_inner_steps
        return
    learner.eval()
    monkeypatch.setattr(learner, "eval_inner_steps", learner.inner_steps)
    scores = score_tasks(learner, episode, both_protocols=False)
    name = learner.objective.score_name
    torch.testing.assert_close(metrics["loss"], scores["loss"].mean())
    torch.testing.assert_close(metrics[name].double(), scores[name].double().mean())


@every()
def test_scores_have_names_and_a_value_for_each_task(kind: type[Learner], trained: Training) -> None:
    learner, main = trained.learner, trained.learner.objective.score_name
    data = with_few_tasks(learner.objective.name)
    (logged,) = make_trainer(precision="64-true").test(learner, datamodule=data, verbose=False)
    means = {mean.score.label: mean for mean in learner.mean_scores["test"]}
    assert {"loss", main} <= means.keys()
    assert logged == pytest.approx({f"test/{label}": mean.value for label, mean in means.items()} | _others(logged))
    numbers, columns = learner.task_scores
    assert numbers == list(range(5))
    assert columns.keys() == {label for label, mean in means.items() if mean.score.after_step is None}
    for label, values in columns.items():
        assert means[label].n_tasks == len(values) == 5
        assert means[label].value == pytest.approx(sum(values) / 5)
    if learner.eval_inner_steps:
        assert {f"{main}_after_{step}" for step in range(learner.eval_inner_steps + 1)} <= means.keys()


def _others(logged: Any) -> dict[str, float]:
    """The number of tasks and the intervals, which are no scores."""
    return {name: value for name, value in logged.items() if name.startswith(("test/ci95", "test/n_tasks"))}


@every(OF_IMAGES)
def test_tasks_of_other_sizes_than_those_of_training_are_scored(kind: type[Learner], trained: Training) -> None:
    """Of one shot, where training had two, and of two classes, where it had three."""
    sizes: list[dict[str, Any]] = [{"k_shot": 1}, {"n_way": 2}]
    for changes in sizes:
        data = with_few_tasks(trained.learner.objective.name, **changes)
        (scores,) = make_trainer(precision="64-true").test(trained.learner, datamodule=data, verbose=False)
        assert 0 < scores["test/loss"] < float("inf")


@every()
def test_a_checkpoint_answers_like_what_it_is_of(
    kind: type[Learner], trained: Training, double_by_default: None, tmp_path: Path
) -> None:
    trained.trainer.save_checkpoint(tmp_path / "run.ckpt")
    backbone = make_suited(kind, seed=5)[0].backbone
    again = kind.load_from_checkpoint(tmp_path / "run.ckpt", backbone=backbone, weights_only=True)
    assert again.objective.name == trained.learner.objective.name
    assert same(state_of(again), trained.state)
    episode = trained.data.episode("val", torch.arange(2)).map(lambda x: x.double() if x.is_floating_point() else x)
    answers = [each.classifier(episode.task)(episode.query_x) for each in (trained.learner, again)]
    assert torch.equal(*answers)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@every()
def test_mixed_precision_gives_nearly_the_gradients_of_float32(kind: type[Learner], precision: str) -> None:
    expected, mixed = (gradients_of(*_in_float32(kind), each).before for each in ("float32", precision))
    assert_nearly_equal(mixed, expected)


def _in_float32(kind: type[Learner]) -> tuple[Learner, Any]:
    learner, data = make_suited(kind, seed=1)
    return learner.float(), data


@pytest.mark.parametrize("training", [False, True])
@every()
def test_finding_out_leaves_a_learner_as_it_is_and_draws_nothing(
    kind: type[Learner], trained: Training, training: bool
) -> None:
    learner = trained.learner.train(training)
    drawn, strategy, gradients = torch.random.get_rng_state(), learner.task_strategy, _gradients(learner)
    episode = trained.data.episode("train" if training else "val", torch.arange(1))
    episode = episode.map(lambda x: x.double() if x.is_floating_point() else x)
    passes = passes_of_one_task(learner, learner.with_noise(episode))
    assert passes.networks
    assert same(state_of(learner), trained.state)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert learner.task_strategy == strategy
    assert not any(layer._forward_hooks for layer in learner.modules())
    assert _gradients(learner) == gradients


def _gradients(learner: Learner) -> list[int]:
    """The gradients that there are, by where they lie."""
    return [id(parameter.grad) for parameter in learner.parameters()]


WRONG = [(kind, name) for kind in LEARNERS for name in ("classification", "regression") if name not in kind.objectives]


@pytest.mark.parametrize(("kind", "objective"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_another_objective_is_refused_in_one_line(kind: type[Learner], objective: str) -> None:
    learner, own = make_suited(kind)[0], " and ".join(kind.objectives)
    with pytest.raises(ValueError, match=rf"^{kind.__name__} is a method of {own}, but .* are {objective}") as refusal:
        make_trainer(max_steps=1).fit(learner, datamodule=data_of(objective))
    assert "\n" not in str(refusal.value)
