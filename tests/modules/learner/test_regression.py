"""Every learner that does regression, on sine waves: by the data's objective alone, with nothing of its own for it."""

import math

import pytest
import torch

import modules
from datamodules import Glyphs, Sinusoid
from datamodules.objective import REGRESSION
from datamodules.settings import Evaluation
from modules import MAML, MLP, Conv4, Learner, ProtoNet
from modules.learner.evaluation import answers_after, curve_steps
from modules.learner.fit_check import check_fit
from tests.every_learner import LEARNERS, OF_FUNCTIONS, every
from tests.scored_tasks import score_tasks
from tests.training_runs import make_trainer


def sinusoid(**changes: object) -> Sinusoid:
    evaluation = Evaluation(n_val_tasks=4, n_test_tasks=4, batch_size=4)
    return Sinusoid(k_shot=6, n_query=5, meta_batch_size=4, evaluation=evaluation, **changes)  # type: ignore[arg-type]


def make_regressor(kind: type[Learner], n_inputs: int = 1) -> Learner:
    torch.manual_seed(0)
    slow = {"inner_lr": 0.02} if "inner_lr" in kind.__init__.__annotations__ else {}  # theirs are those of images
    return kind(n_way=1, backbone=MLP([n_inputs], [8, 8], "tanh"), **slow)  # type: ignore[call-arg, arg-type]


def test_all_learners_but_those_of_classes_are_here() -> None:
    of_classes = {"ProtoNet", "FineTunedProtoNet", "LEO", "BaselinePlusPlus", "RelationNetwork"}
    assert {kind.__name__ for kind in LEARNERS if kind not in OF_FUNCTIONS} >= of_classes


@every(OF_FUNCTIONS)
@pytest.mark.parametrize("oracle", [False, True])
def test_it_trains_and_is_scored_by_the_error(kind: type[Learner], oracle: bool) -> None:
    learner = make_regressor(kind, n_inputs=3 if oracle else 1)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    trainer = make_trainer(max_steps=2, val_check_interval=2)
    trainer.fit(learner, datamodule=sinusoid(oracle=oracle))
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert learner.objective is REGRESSION
    assert metrics["val/mse"] == metrics["val/loss"]
    assert all(math.isfinite(value) for value in metrics.values())
    assert {name for name in metrics if "_after_" in name} == {f"val/mse_after_{s}" for s in curve_steps(learner)}
    trains = kind is not modules.FromScratch
    assert trains == any(not torch.equal(value, before[name]) for name, value in learner.state_dict().items())


@every(OF_FUNCTIONS)
def test_its_steps_descend_the_squared_error_of_the_support(kind: type[Learner]) -> None:
    learner, data = make_regressor(kind), sinusoid()
    learner.objective = REGRESSION
    episode = data.episode("val", torch.arange(16))
    last = learner.eval_inner_steps
    answers = answers_after(learner, episode.task_id, episode.task, episode.task.x, {0, last})
    first, adapted = (REGRESSION.loss(answers[step], episode.task.y).mean() for step in (0, last))
    assert answers[last].shape == (16, 6, 1)
    assert float(adapted) < float(first)


def test_answers_on_the_way_are_those_that_are_scored_and_those_of_the_learned_function() -> None:
    learner = make_regressor(MAML)
    learner.objective = REGRESSION
    learner.eval_inner_steps = 3
    learner.eval()
    episode = sinusoid().episode("val", torch.arange(4))
    answers = answers_after(learner, episode.task_id, episode.task, episode.query_x, [0, 1, 3])
    assert list(answers) == [0, 1, 3]
    scores = score_tasks(learner, episode, both_protocols=False)
    for step, values in answers.items():
        error = (values.squeeze(-1) - episode.query_y).square().mean(1)  # (T,)
        assert torch.allclose(error, scores[f"mse_after_{step}"], rtol=1e-5)
    function = learner.classifier(episode.task)
    assert torch.allclose(function(episode.query_x), answers[3])


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_the_score_is_computed_in_float32(precision: str) -> None:
    learner, data = make_regressor(MAML), sinusoid()
    trainer = make_trainer(max_steps=1, val_check_interval=1, precision=precision)
    trainer.fit(learner, datamodule=data)
    (answers,) = trainer.predict(learner, datamodule=data) or []
    assert isinstance(answers, dict)
    assert answers["answers"].dtype == answers["query_y"].dtype == torch.float32
    expected = float((answers["answers"].squeeze(-1) - answers["query_y"]).square().mean())
    (tested,) = trainer.test(learner, datamodule=data, verbose=False)
    assert tested["test/mse"] == pytest.approx(expected, rel=1e-5)


def test_a_checkpoint_adapts_by_the_same_loss_where_there_are_no_data(tmp_path) -> None:
    learner, data = make_regressor(MAML), sinusoid()
    trainer = make_trainer(max_steps=1)
    trainer.fit(learner, datamodule=data)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    contents = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert contents["objective"] == "regression"
    assert contents["input_spec"] == {"input_shape": [1]}
    again = MAML.load_from_checkpoint(tmp_path / "run.ckpt", backbone=MLP([1], [8, 8], "tanh"), weights_only=True)
    episode = data.episode("test", torch.arange(2))
    answers = [each.classifier(episode.task)(episode.query_x) for each in (learner, again)]
    assert torch.equal(*answers)
    assert again.objective is REGRESSION


@pytest.mark.parametrize(
    ("learner", "data", "words"),
    [
        (ProtoNet(MLP([1])), Sinusoid(), "ProtoNet is a method of classification, but Sinusoid's tasks are regression"),
        (MAML(1), Sinusoid(), r"inputs of shape \(1, 28, 28\), but Sinusoid gives \(1,\): set model.backbone to modul"),
        (MAML(5, Conv4(3)), Glyphs(), r"images of \(channels, height, width\) = \(3, 28, 28\), but Glyphs gives \(1"),
        (MAML(5, MLP([1])), Glyphs(), r"inputs of shape \(1,\), but Glyphs gives \(1, 28, 28\): set model.backbone to"),
        (MAML(3, MLP([1])), Sinusoid(), "MAML's output layer has n_way = 3 classes, but the train tasks have 1"),
    ],
)
def test_what_does_not_fit_is_refused(learner: Learner, data: Sinusoid | Glyphs, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_fit(learner, data)
