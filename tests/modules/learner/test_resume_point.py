"""A run that goes on from any moment validates when the uninterrupted one does, and on the same tasks."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from modules.learner.checkpoint_format import FORMAT
from modules.learner.resume_point import begin_with_validation
from tests.learnable_images import make_data
from tests.training_runs import make_learner, make_trainer, same, state_of

MOMENTS = [
    "after the batch",
    "before the validation",
    "in the validation",
    "after the validation",
    "after a later batch",
]


class SaveEverywhere(pl.Callback):
    """Saves around the validation after step 3, and notes every validation's step and score."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.validations, self.validating = folder, [], False  # type: ignore[var-annotated]

    def save(self, trainer: pl.Trainer, moment: str, step: int = 3) -> None:
        if trainer.global_step == step and not (self.folder / moment).exists():
            trainer.save_checkpoint(self.folder / moment)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save(trainer, "after the batch")
        self.save(trainer, "after a later batch", step=4)

    def on_validation_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.validating = True
        self.save(trainer, "before the validation")

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.save(trainer, "in the validation")

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.validating = False
        self.save(trainer, "after the validation")
        logged_at = trainer.fit_loop.epoch_loop._batches_that_stepped
        self.validations.append((trainer.global_step, logged_at, float(trainer.callback_metrics["val/accuracy"])))

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.validating:
            begin_with_validation(checkpoint)


def train(folder: Path, seed: int, checkpoint: Path | None = None) -> tuple[Any, list[Any]]:
    learner, saves = make_learner("maml", seed), SaveEverywhere(folder)
    trainer = make_trainer(saves, max_steps=7, precision="64-true")
    trainer.fit(learner, datamodule=make_data(), ckpt_path=checkpoint, weights_only=True)
    return state_of(learner), saves.validations


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list[Any]]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, *train(folder, seed=1)


@pytest.mark.parametrize("moment", MOMENTS)
def test_no_validation_is_left_out_or_made_twice(whole: Any, moment: str, tmp_path: Path) -> None:
    folder, state, validations = whole
    assert [step for step, _, _ in validations] == [3, 6]
    resumed, seen = train(tmp_path, seed=2, checkpoint=folder / moment)
    assert same(resumed, state)
    assert seen == validations[0 if "later" not in moment and "after the v" not in moment else 1 :]


@pytest.mark.parametrize("number", [None, 0, FORMAT + 1])
def test_a_checkpoint_of_another_format_is_refused(whole: Any, number: int | None, tmp_path: Path) -> None:
    checkpoint = torch.load(whole[0] / "after a later batch", weights_only=True)
    assert checkpoint.pop("format") == FORMAT
    path = tmp_path / "other.ckpt"
    torch.save(checkpoint if number is None else checkpoint | {"format": number}, path)
    with pytest.raises(ValueError, match=rf"^the checkpoint cannot be read: its format is .*, and format {FORMAT} is"):
        train(tmp_path, seed=2, checkpoint=path)
    with pytest.raises(ValueError, match=r"^the checkpoint cannot be read: its format is"):
        make_trainer(precision="64-true").test(
            make_learner("maml", 2), datamodule=make_data(), ckpt_path=path, weights_only=True, verbose=False
        )


def test_dropout_goes_on_as_in_the_uninterrupted_run(tmp_path: Path) -> None:
    def run(seed: int, checkpoint: Path | None = None) -> Any:
        learner = make_learner("protonet", seed)
        learner.network = torch.nn.Sequential(learner.network, torch.nn.Dropout(0.5))
        trainer = make_trainer(SaveEverywhere(tmp_path), max_steps=7)
        trainer.fit(learner, datamodule=make_data(), ckpt_path=checkpoint, weights_only=True)
        return state_of(learner)

    state = run(1)
    assert not same(run(3), state)
    assert same(run(2, tmp_path / "after a later batch"), state)
