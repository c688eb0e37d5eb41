"""The gradients of one outer step in some precision, on the CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from datamodules.episode_data import EpisodeDataModule
from modules import Learner
from tests.training_runs import make_trainer


class Gradients(pl.Callback):
    """Keeps an outer step's gradients: before clipping, and as the optimiser took them; flattened."""

    before: Tensor
    after: Tensor

    def on_before_optimizer_step(self, trainer: Any, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.before = torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None])

    def on_train_batch_end(self, trainer: Any, pl_module: pl.LightningModule, *_: Any) -> None:
        self.after = torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None])


def float16(scale: float = 2.0**10) -> dict[str, Any]:
    """A Trainer's settings for float16 with a scaled loss."""
    return {"plugins": [MixedPrecision("16-mixed", "cpu", GradScaler("cpu", init_scale=scale))]}


PRECISIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "float32": lambda: {"precision": "32-true"},
    "bf16": lambda: {"precision": "bf16-mixed"},
    "fp16": float16,
}


def gradients_of(learner: Learner, data: EpisodeDataModule, precision: str) -> Gradients:
    """Those of the first outer step."""
    gradients = Gradients()
    make_trainer(gradients, max_steps=1, **PRECISIONS[precision]()).fit(learner, datamodule=data)
    assert gradients.before.isfinite().all()
    return gradients


def assert_nearly_equal(mixed: Tensor, expected: Tensor) -> None:
    """Checks flattened gradients of mixed precision against those of float32."""
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, expected)
    assert torch.cosine_similarity(mixed, expected, dim=0) > 0.95
    assert mixed.norm() == pytest.approx(expected.norm().item(), rel=0.06)
