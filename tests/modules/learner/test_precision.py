"""Mixed precision and gradient clipping."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from modules import IMAML, LEO, FromScratch, Learner
from tests.every_learner import make_small
from tests.gradients import Gradients, assert_nearly_equal, float16, gradients_of
from tests.learnable_images import make_data
from tests.training_runs import METHODS, make_learner, make_trainer, same, state_of

CLIPPING: dict[str, Callable[..., Any]] = {"clip_norm": clip_grad_norm_, "clip_value": clip_grad_value_}


def one_step(method: str, precision: str, **outer: Any) -> Gradients:
    return gradients_of(make_learner(method, seed=1, **outer), make_data(), precision)


@pytest.mark.parametrize("method", ["fomaml", *METHODS])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_gives_nearly_the_gradients_of_float32(method: str, precision: str) -> None:
    assert_nearly_equal(one_step(method, precision).before, one_step(method, "float32").before)


@pytest.mark.parametrize("precision", ["float32", "fp16"])
@pytest.mark.parametrize(("kind", "bound"), [("clip_norm", 0.1), ("clip_value", 0.02)])
def test_clipping_is_torchs_on_unscaled_gradients(precision: str, kind: str, bound: float) -> None:
    gradients = one_step("maml", precision, **{kind: bound})
    expected = torch.zeros_like(gradients.before, requires_grad=True)
    expected.grad = gradients.before.clone()
    CLIPPING[kind]([expected], bound)
    assert not torch.allclose(expected.grad, gradients.before)
    torch.testing.assert_close(gradients.after, expected.grad)


def test_an_overflow_skips_the_step_and_halves_the_scale() -> None:
    learner = make_learner("maml", seed=1)
    before, settings = state_of(learner), float16(scale=2.0**60)
    trainer = make_trainer(max_steps=1, **settings)
    trainer.fit(learner, datamodule=make_data())
    weights = {name for name, _ in learner.named_parameters()}
    assert same({n: before[n] for n in weights}, {n: v for n, v in state_of(learner).items() if n in weights})
    assert settings["plugins"][0].scaler.get_scale() == 2.0**59


@pytest.mark.parametrize("kind", [FromScratch, IMAML, LEO])
@pytest.mark.parametrize("precision", ["fp16", "bf16-true"])
def test_what_has_no_gradient_or_computes_in_float32_trains_in_less_precision(
    kind: type[Learner], precision: str
) -> None:
    settings: dict[str, Any] = float16() if precision == "fp16" else {"precision": precision}
    learner, trainer = make_small(kind, seed=1).float(), make_trainer(max_steps=1, **settings)
    before = state_of(learner)
    trainer.fit(learner, datamodule=make_data())
    assert trainer.global_step == 1
    kept = same(
        {n: before[n] for n, _ in learner.named_parameters()}, {n: p.detach() for n, p in learner.named_parameters()}
    )
    assert kept is (kind is FromScratch and precision == "fp16")
