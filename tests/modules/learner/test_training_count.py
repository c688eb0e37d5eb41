"""What a network draws from torch's generators is another thing in every batch of a training, and the same again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.episode import Episode
from modules.functional.images.dropblock import drop_block
from modules.learner.training_count import batches_trained
from tests.learnable_images import make_data
from tests.rank_group import RankGroup
from tests.training_runs import make_learner, make_trainer


class Draws(pl.Callback):
    """The first number that a network could draw in each batch; saves after the fifth."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.drawn: list[float] = []
        self.batches: list[int] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.folder is not None and len(self.drawn) == 5:
            trainer.save_checkpoint(self.folder / "fifth.ckpt")


def draw(folder: Path | None = None, ckpt_path: Path | None = None, **limits: int) -> list[float]:
    learner, draws = make_learner("protonet", seed=1), Draws(folder)
    gradient_of = learner.batch_gradient

    def noting(episode: Episode) -> Any:
        draws.drawn.append(float(torch.rand(())))
        draws.batches.append(batches_trained(learner.trainer))
        return gradient_of(episode)

    learner.batch_gradient = noting  # type: ignore[method-assign]
    trainer = make_trainer(draws, max_steps=8, **limits)
    trainer.fit(learner, datamodule=make_data(), ckpt_path=ckpt_path, weights_only=True)
    assert draws.batches == list(range(8 - len(draws.batches), 8))
    return draws.drawn


def drop_some_squares(x: Tensor) -> Tensor:
    return drop_block(x, torch.rand(1, 4, 7, 7), drop_rate=0.3, block_size=3)


def test_no_epoch_draws_what_another_has_drawn(tmp_path: Path) -> None:
    whole = draw()
    assert len(set(whole)) == 8
    assert draw(tmp_path, limit_train_batches=3) == whole
    assert draw(ckpt_path=tmp_path / "fifth.ckpt", limit_train_batches=3) == whole[5:]


def test_ranks_draw_for_themselves(rank_pair: RankGroup) -> None:
    first, second = rank_pair(draw)
    assert len(set(first + second)) == 16


@pytest.mark.parametrize("drop", [F.dropout, drop_some_squares], ids=["dropout", "dropblock"])
def test_a_layer_drops_other_features_in_the_next_epoch(drop: Callable[[Tensor], Tensor]) -> None:
    dropped: list[Tensor] = []
    learner = make_learner("protonet", seed=1)

    class Dropping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                dropped.append(drop(torch.ones(1, 4, 9, 9)))
            return x

    learner.network = nn.Sequential(learner.network, Dropping())

    class TakesTheLast(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            lasts.append(dropped[-1])
            dropped.clear()

    lasts: list[Tensor] = []
    trainer = make_trainer(TakesTheLast(), max_steps=4, limit_train_batches=2)
    trainer.fit(learner, datamodule=make_data())
    assert len(lasts) == 4
    assert not any(torch.equal(lasts[i], lasts[j]) for i in range(4) for j in range(i))
