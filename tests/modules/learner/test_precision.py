"""Mixed precision and gradient clipping."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from tests.learnable_images import make_data
from tests.training_runs import FURTHER_METHODS, METHODS, make_learner, make_trainer, same, state_of


class Gradients(pl.Callback):
    """Keeps an outer step's gradients: before clipping, and as the optimiser took them; flattened."""

    before: Tensor
    after: Tensor

    def on_before_optimizer_step(self, trainer: Any, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.before = torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None])

    def on_train_batch_end(self, trainer: Any, pl_module: pl.LightningModule, *_: Any) -> None:
        self.after = torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None])


def float16(scale: float = 2.0**10) -> dict[str, Any]:
    return {"plugins": [MixedPrecision("16-mixed", "cpu", GradScaler("cpu", init_scale=scale))]}


PRECISIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "float32": lambda: {"precision": "32-true"},
    "bf16": lambda: {"precision": "bf16-mixed"},
    "fp16": float16,
}
CLIPPING: dict[str, Callable[..., Any]] = {"clip_norm": clip_grad_norm_, "clip_value": clip_grad_value_}


def one_step(method: str, precision: str, **outer: Any) -> Gradients:
    learner, gradients = make_learner(method, seed=1, **outer), Gradients()
    make_trainer(gradients, max_steps=1, **PRECISIONS[precision]()).fit(learner, datamodule=make_data())
    assert gradients.before.isfinite().all()
    return gradients


LEARNERS = [method for method in METHODS | FURTHER_METHODS if method != "from_scratch"]  # which has no gradient


@pytest.mark.parametrize("method", LEARNERS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_gives_nearly_the_gradients_of_float32(method: str, precision: str) -> None:
    expected, mixed = one_step(method, "float32").before, one_step(method, precision).before
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, expected)
    assert torch.cosine_similarity(mixed, expected, dim=0) > 0.95
    assert mixed.norm() == pytest.approx(expected.norm().item(), rel=0.06)


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


@pytest.mark.parametrize("method", ["from_scratch", "imaml", "leo"])
@pytest.mark.parametrize("precision", ["fp16", "bf16-true"])
def test_what_has_no_gradient_or_computes_in_float32_trains_in_less_precision(method: str, precision: str) -> None:
    settings: dict[str, Any] = float16() if precision == "fp16" else {"precision": precision}
    learner, trainer = make_learner(method, seed=1), make_trainer(max_steps=1, **settings)
    before = state_of(learner)
    trainer.fit(learner, datamodule=make_data())
    assert trainer.global_step == 1
    kept = same(
        {n: before[n] for n, _ in learner.named_parameters()}, {n: p.detach() for n, p in learner.named_parameters()}
    )
    assert kept is (method == "from_scratch" and precision == "fp16")
