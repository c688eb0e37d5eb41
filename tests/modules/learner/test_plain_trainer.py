"""Lightning's own Trainer, callbacks and loggers, as a program uses them without the command line."""

import csv
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger

from datamodules.settings import Evaluation, Loading
from modules import Learner
from modules.learner.outer_loop import OuterLoop
from modules.learner.run_length import planned_steps
from tests.learnable_images import LearnableImages, make_data
from tests.plain_trainer import plain_trainer
from tests.training_runs import make_learner, same, state_of


def short_epochs(**changes: Any) -> LearnableImages:
    """Four batches an epoch, three validation batches."""
    data = make_data(**({"evaluation": Evaluation(n_val_tasks=6, n_test_tasks=6, batch_size=2)} | changes))
    data.batches_per_epoch = 4
    return data


def fitted(
    method: str = "maml", seed: int = 1, checkpoint: Path | None = None, **settings: Any
) -> tuple[pl.Trainer, Learner]:
    """A learner that such a Trainer has trained."""
    learner, trainer = make_learner(method, seed), plain_trainer(**settings)
    trainer.fit(learner, datamodule=short_epochs(), ckpt_path=checkpoint)
    return trainer, learner


# ---- the length of an epoch


@pytest.mark.parametrize(
    ("settings", "steps", "validations"),
    [
        ({"max_epochs": 1}, 4, 1),
        ({"max_epochs": 3}, 12, 3),
        ({"max_epochs": 3, "max_steps": 6}, 6, 1),
        ({"max_steps": 9}, 9, 2),
        ({"max_steps": 9, "val_check_interval": 3}, 9, 3),
        ({"max_steps": 9, "val_check_interval": 6}, 9, 1),  # more than an epoch's batches
        ({"max_epochs": 2, "val_check_interval": 0.5}, 8, 4),
        ({"max_epochs": 4, "check_val_every_n_epoch": 2}, 16, 2),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 4, 2),
        ({"max_epochs": 2, "limit_train_batches": 6}, 12, 2),
        ({"max_steps": 5, "overfit_batches": 2}, 5, 2),
        ({"max_steps": 5, "overfit_batches": 0.5}, 5, 2),
        ({"max_epochs": 1, "limit_val_batches": 0}, 4, 0),
        ({"fast_dev_run": True}, 1, 1),
        ({"fast_dev_run": 2}, 2, 1),
        ({"max_steps": 5, "max_epochs": -1, "check_val_every_n_epoch": None, "val_check_interval": 2}, 5, 2),
    ],
    ids=str,
)
def test_a_training_ends_and_validates(settings: dict[str, Any], steps: int, validations: int) -> None:
    class Count(pl.Callback):
        seen = 0

        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.seen += not trainer.sanity_checking

    count = Count()
    trainer, _ = fitted(callbacks=[count], num_sanity_val_steps=0, **settings)
    assert (trainer.global_step, count.seen) == (steps, validations)


@pytest.mark.parametrize("loading", [Loading("device"), Loading("cpu", 2)], ids=str)
def test_epochs_go_on_through_the_stream(loading: Loading) -> None:
    """An epoch's length changes when a validation comes, and no weight."""
    states = []
    for settings in ({"max_epochs": 2}, {"max_steps": 8, "check_val_every_n_epoch": None}):
        learner = make_learner("maml", 1)
        plain_trainer(**settings).fit(learner, datamodule=short_epochs(loading=loading))
        states.append(state_of(learner))
    assert same(*states)


def test_shares_of_a_validation_and_a_test_can_be_taken() -> None:
    trainer, learner = fitted(max_epochs=1, limit_val_batches=0.4, limit_test_batches=0.7, limit_predict_batches=1)
    assert trainer.num_val_batches == [1]
    trainer.test(learner, datamodule=short_epochs(), verbose=False)
    assert trainer.num_test_batches == [2]
    assert len(trainer.predict(learner, datamodule=short_epochs()) or []) == 1


def test_a_schedule_ends_with_the_last_epoch() -> None:
    trainer, _ = fitted("reptile", max_epochs=2)
    assert trainer.lr_scheduler_configs[0].scheduler.get_last_lr() == [0.0]
    assert planned_steps(trainer, 1) == 8
    assert planned_steps(trainer, 2) == 4
    trainer.fit_loop.epoch_loop.max_steps = 3
    assert planned_steps(trainer, 1) == 3


def test_a_schedule_without_an_end_is_refused() -> None:
    learner = make_learner("protonet", 1)
    learner.outer = OuterLoop(schedule="cosine")
    with pytest.raises(ValueError, match=r"ends at the last outer step: set trainer\.max_steps"):
        plain_trainer(max_steps=-1, max_epochs=-1).fit(learner, datamodule=short_epochs())


# ---- callbacks and loggers


def test_a_users_checkpoints_follow_the_validation(tmp_path: Path) -> None:
    saves = ModelCheckpoint(tmp_path, monitor="val/accuracy", mode="max", save_last=True, save_top_k=2)
    trainer, learner = fitted(callbacks=[saves], enable_checkpointing=True, max_epochs=3)
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "last.ckpt"
    assert len(saves.best_k_models) == 2
    last = trainer.test(learner, datamodule=short_epochs(), ckpt_path="last", verbose=False)
    best = trainer.test(learner, datamodule=short_epochs(), ckpt_path="best", verbose=False)
    trainer.test(learner, datamodule=short_epochs(), ckpt_path=saves.best_model_path, weights_only=True, verbose=False)
    assert last[0].keys() == best[0].keys()


@pytest.mark.parametrize("method", ["maml", "reptile"])
@pytest.mark.parametrize("settings", [{"max_epochs": 2}, {"max_steps": 7, "val_check_interval": 3}], ids=str)
def test_a_file_from_the_middle_goes_on_to_the_same_weights(
    tmp_path: Path, method: str, settings: dict[str, Any]
) -> None:
    saves = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1, save_last=True)
    _, whole = fitted(method, callbacks=[saves], enable_checkpointing=True, **settings)
    for step in (1, 3, 4, 5):  # 4: at an epoch's end
        trainer, resumed = fitted(method, 2, tmp_path / f"step={step}.ckpt", **settings)
        assert same(state_of(resumed), state_of(whole)), step
        assert trainer.global_step == trainer.fit_loop.total_batch_idx + 1
    assert same(state_of(fitted(method, 2, tmp_path / "last.ckpt", **settings)[1]), state_of(whole))


def test_a_csv_file_and_the_learning_rate(tmp_path: Path) -> None:
    callbacks = [LearningRateMonitor("step"), EarlyStopping("val/accuracy", mode="max", patience=1)]
    logger = CSVLogger(tmp_path)
    trainer, _ = fitted(callbacks=callbacks, logger=logger, log_every_n_steps=1, max_epochs=9)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert trainer.global_step < 36, "the validation has stopped it"
    rates = [row["lr-AdamW"] for row in rows if row["lr-AdamW"]]
    assert rates == ["0.001"] * trainer.global_step
    assert [int(row["step"]) for row in rows if row["train/loss"]] == list(range(trainer.global_step))
    assert [int(row["step"]) for row in rows if row["val/accuracy"]] == list(range(3, trainer.global_step, 4))


def test_progress_bars_and_summaries(capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, Any] = {"enable_progress_bar": True, "enable_model_summary": True}
    fitted(max_epochs=1, **shown)
    fitted(max_epochs=1, callbacks=[RichProgressBar()], **shown)
    assert "val/accuracy" in capsys.readouterr().out


def test_all_of_lightnings_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.chdir(tmp_path)
    learner, data = make_learner("maml", 1), short_epochs()
    trainer = pl.Trainer(max_steps=5)
    trainer.fit(learner, data)
    trainer.validate(learner, data)
    trainer.test(learner, data)
    assert len(trainer.predict(learner, data) or []) == 3
    assert list(tmp_path.rglob("epoch=1-step=5.ckpt"))
    assert list(tmp_path.rglob("metrics.csv"))
    assert [warning for warning in recwarn if "overridden" in str(warning.message)] == []


def test_a_second_trainer_trains_the_same_learner_on() -> None:
    learner, data = make_learner("maml", 1), short_epochs()
    for _ in range(2):
        before, trainer = state_of(learner), plain_trainer(max_epochs=1)
        trainer.fit(learner, data)
        assert trainer.global_step == 4
        assert not same(before, state_of(learner))
        trainer.test(learner, data, verbose=False)


def test_rows_inside_an_outer_step_have_its_number(tmp_path: Path) -> None:
    """An epoch of four batches ends inside an outer step of three: its validation is of the step before."""
    learner, logger = make_learner("maml", 1, schedule="cosine", accumulate_batches=3), CSVLogger(tmp_path)
    settings: dict[str, Any] = {"max_steps": 4, "limit_train_batches": 4}
    settings |= {"num_sanity_val_steps": 0, "log_every_n_steps": 1}
    plain_trainer(logger=logger, callbacks=[LearningRateMonitor()], **settings).fit(learner, datamodule=short_epochs())
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    rates = {(int(row["step"]), round(float(row["lr-AdamW"]), 6)) for row in rows if row["lr-AdamW"]}
    assert sorted(rates) == [(0, 0.001), (1, 0.000854), (2, 0.0005), (3, 0.000146)]
    assert [int(row["step"]) for row in rows if row["val/accuracy"]] == [0, 1, 3]


def test_a_validation_that_would_never_come_is_refused() -> None:
    learner = make_learner("maml", 1, accumulate_batches=2)
    trainer = plain_trainer(max_epochs=2, val_check_interval=3)
    with pytest.raises(ValueError, match=r"counts outer steps, of 2 batches each, and an epoch has 4 batches"):
        trainer.fit(learner, datamodule=short_epochs())


def test_epochs_that_end_inside_an_outer_step_are_refused_where_their_number_ends_the_training() -> None:
    """A resumed training would end before its last step: the batches of a step that was begun are drawn again."""
    learner = make_learner("maml", 1, accumulate_batches=3)
    with pytest.raises(ValueError, match=r"an epoch has 4 batches, no whole number of outer steps of 3 batches"):
        plain_trainer(max_epochs=2).fit(learner, datamodule=short_epochs())
