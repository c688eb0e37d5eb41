"""Every learner that says it does regression learns sine waves."""

from typing import Any

import pytest
import torch

from datamodules import Sinusoid
from datamodules.settings import Evaluation
from modules import MLP, FromScratch, Learner, OuterLoop
from tests.every_learner import OF_FUNCTIONS, every
from tests.learner_exceptions import EXCEPTIONS, exceptions_of
from tests.training_runs import make_trainer


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
    named = {name for name, exceptions in EXCEPTIONS.items() if exceptions.of_functions}
    assert names >= named | {"JointTraining", "FromScratch"}
    assert len(named) == 9
    assert {"ProtoNet", "LEO", "FineTunedProtoNet"}.isdisjoint(names)


@every(OF_FUNCTIONS)
def test_sine_waves_are_learned(kind: type[Learner]) -> None:
    learner, data = make(kind, **exceptions_of(kind).of_functions), sine_waves()
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
