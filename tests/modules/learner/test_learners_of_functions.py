"""Every learner that says it does regression learns sine waves; the others refuse them."""

from typing import Any

import pytest
import torch

from datamodules import Sinusoid
from datamodules.settings import Evaluation
from modules import MLP, FromScratch, JointTraining, Learner, OuterLoop
from tests.every_learner import LEARNERS
from tests.learnable_images import TwoBlocks, make_data
from tests.training_runs import make_trainer

OF_FUNCTIONS = [kind for kind in LEARNERS if "regression" in kind.objectives]
EXTRA: dict[str, dict[str, Any]] = {
    "MAML": {"inner_lr": 0.02},
    "ANIL": {"inner_lr": 0.02},
    "BOIL": {"inner_lr": 0.02},
    "MetaSGD": {"largest_lr": 0.02},
    "MAMLPlusPlus": {"inner_lr": 0.02, "inner_steps": 2},
    "IMAML": {"inner_lr": 0.02, "inner_steps": 3, "regularisation": 1.0},
    "Reptile": {"inner_lr": 0.01, "eval_inner_steps": 5},
    "ESMAML": {"inner_lr": 0.01, "sigma": 0.05, "inner_sigma": 0.05, "directions": 8, "inner_directions": 8},
    "FromScratch": {"inner_steps": 20, "inner_lr": 0.01},
}


def make(kind: type[Learner], **arguments: Any) -> Learner:
    torch.manual_seed(0)
    named: dict[str, Any] = {"backbone": MLP([1], [16, 16])}
    if kind.__name__ != "Reptile":
        named["outer"] = OuterLoop(lr=0.01)
    named |= {"n_way": 1} if "n_way" in kind.__init__.__annotations__ else {}
    return kind(**named, **arguments)


def sine_waves() -> Sinusoid:
    return Sinusoid(meta_batch_size=8, evaluation=Evaluation(n_val_tasks=60, n_test_tasks=4, batch_size=60))


def test_those_of_gradients_are_all_there() -> None:
    names = {kind.__name__ for kind in OF_FUNCTIONS}
    assert names >= EXTRA.keys() | {"JointTraining", "FromScratch"}
    assert {"ProtoNet", "LEO", "FineTunedProtoNet"}.isdisjoint(names)


@pytest.mark.parametrize("kind", OF_FUNCTIONS, ids=lambda kind: kind.__name__)
def test_sine_waves_are_learned(kind: type[Learner]) -> None:
    learner, data = make(kind, **EXTRA.get(kind.__name__, {})), sine_waves()
    trainer = make_trainer(max_steps=60, val_check_interval=60)
    (before,) = trainer.validate(learner, datamodule=data, verbose=False)
    trainer.fit(learner, datamodule=data)
    after = {name: float(value) for name, value in trainer.callback_metrics.items()}
    last = f"val/mse_after_{learner.eval_inner_steps}"
    assert after["val/mse"] == after[last] == pytest.approx(after["val/loss"])
    if kind is FromScratch:
        assert after["val/mse"] == before["val/mse"] < before["val/mse_after_0"]
    else:
        assert after["val/mse"] < 0.93 * before["val/mse"]
    (answers,) = trainer.predict(learner, datamodule=data)  # type: ignore[misc]
    assert answers["answers"].shape == (4, 10, 1)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "kind", [kind for kind in LEARNERS if kind not in OF_FUNCTIONS], ids=lambda kind: kind.__name__
)
def test_learners_of_classes_refuse_functions(kind: type[Learner]) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__} is a method of classification, .* tasks are regression"):
        make_trainer(max_steps=1).fit(kind(backbone=MLP([1], [4])), datamodule=sine_waves())  # type: ignore[call-arg]


def test_pre_training_refuses_classes() -> None:
    with pytest.raises(ValueError, match=r"JointTraining is a method of regression, but .* tasks are classification"):
        make_trainer(max_steps=1).fit(JointTraining(3, TwoBlocks()), datamodule=make_data())
