"""Pictures of validation tasks: what the learner was shown, and what it made of the queries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from app.runs.curve_picture import draw_curves
from datamodules.objective import CLASSIFICATION, REGRESSION
from modules import Learner

MAX_CLASSES, MAX_COLUMNS = 10, 5  # what is still readable
GAP = 10  # pixels between images
RIGHT, WRONG, NEUTRAL = "#1a7f37", "#cf222e", "#8c959f"


class EpisodePicture(Callback):
    """Draws the first validation tasks after a validation, for the run's folder and for W&B.

    Args:
        every_n_validations: Draws after the first validation and every so many; 0: never.
    """

    def __init__(self, every_n_validations: int = 5) -> None:
        if every_n_validations < 0:
            raise ValueError(f"episode_picture.every_n_validations must not be negative, got {every_n_validations}.")
        self.every_n_validations = every_n_validations
        self.folder = Path("episodes")  # the application puts it into the run's folder
        self._validations = 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self.every_n_validations and self._validations % self.every_n_validations == 0
        self._validations += 1
        if trainer.sanity_checking or trainer.state.fn != "fit" or not due or not trainer.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step-{trainer.global_step:06d}.png"
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        DRAWINGS[data.objective.name](path, cast(Learner, pl_module), data, trainer.global_step)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("val/episode", [str(path)], step=trainer.global_step - 1)  # as the step's metrics

    def state_dict(self) -> dict[str, Any]:
        return {"validations": self._validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validations = state_dict["validations"]


def draw_classes(path: Path, learner: Learner, data: Any, step: int) -> None:
    """Draws the first validation task of images.

    Args:
        path: The PNG file.
        learner: The learner.
        data: A data module with a bank.
        step: The outer step.
    """
    episode = data.episode("val", torch.zeros(1, dtype=torch.int64, device=learner.device))
    probabilities = learner.classifier(episode.task)(episode.query_x)
    names = [data.bank.class_names[c] for c in episode.task.classes[0].tolist()]
    shown = (episode.task.x, episode.task.y, episode.query_x, episode.query_y)
    save_picture(path, [values[0].cpu().float() for values in shown], probabilities[0].cpu(), names, step)


DRAWINGS: dict[str, Callable[[Path, Learner, Any, int], None]] = {
    CLASSIFICATION.name: draw_classes,
    REGRESSION.name: draw_curves,
}


def save_picture(path: Path, episode: list[Tensor], probabilities: Tensor, names: list[str], step: int) -> None:
    """Draws one task: a row for each class, with its support images and its queries under their predictions.

    Args:
        path: The PNG file.
        episode: support_x (S, C, H, W), support_y (S,), query_x (Q, C, H, W), query_y (Q,).
        probabilities: (Q, n_way).
        names: The classes' names.
        step: The outer step, for the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    support_x, support_y, query_x, query_y = episode
    n_way, size = min(len(names), MAX_CLASSES), support_x.shape[-1]
    shots = min(int((support_y == 0).sum()), MAX_COLUMNS)
    queries = min(int((query_y == 0).sum()), MAX_COLUMNS)
    step_x, step_y = size + GAP, size + GAP + size // 4
    width, height = (shots + queries + 1) * step_x, n_way * step_y
    scale = 2.4 / 100  # inches for a pixel
    figure = Figure(figsize=(width * scale + 2.2, height * scale + 0.6), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    left = -1.9 / scale
    axes.set_xlim(left, width)
    axes.set_ylim(height, -0.6 / scale)
    axes.axis("off")
    right_of_all = float((probabilities.argmax(-1) == query_y).float().mean())
    axes.text(left + 4, -14, f"step {step:,}: {right_of_all:.0%} of the queries right", fontsize=9, va="center")
    axes.text(GAP / 2, -4, "support", fontsize=8, color=NEUTRAL)
    axes.text((shots + 0.5) * step_x, -4, "queries: predicted class and probability", fontsize=8, color=NEUTRAL)
    for label in range(n_way):
        y = label * step_y + GAP / 2
        axes.text(left + 4, y + size / 2, f"{label}  {_shortened(names[label])}", fontsize=8, va="center")
        for column, image in enumerate(support_x[support_y == label][:shots]):
            _draw_image(axes, image, column * step_x + GAP / 2, y, NEUTRAL, "")
        for column, position in enumerate((query_y == label).nonzero().flatten().tolist()[:queries]):
            guess = int(probabilities[position].argmax())
            caption = f"{guess}  {float(probabilities[position, guess]):.0%}"
            colour = RIGHT if guess == label else WRONG
            _draw_image(axes, query_x[position], (shots + 0.5 + column) * step_x, y, colour, caption)
    figure.savefig(path)


def _draw_image(axes: Any, image: Tensor, x: float, y: float, colour: str, caption: str) -> None:
    """One image (C, H, W) with its frame and what stands below it."""
    from matplotlib.patches import Rectangle

    height, width = image.shape[-2:]
    low, high = float(image.min()), float(image.max())
    shown = ((image - low) / max(high - low, 1e-6)).permute(1, 2, 0).squeeze(-1)  # (H, W) or (H, W, C)
    axes.imshow(
        shown.numpy(), extent=(x, x + width, y + height, y), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest"
    )
    axes.add_patch(Rectangle((x - 1, y - 1), width + 2, height + 2, fill=False, edgecolor=colour, linewidth=1.6))
    axes.text(x + width / 2, y + height + 2, caption, fontsize=7, color=colour, ha="center", va="top")


def _shortened(name: str) -> str:
    return name if len(name) <= 24 else "..." + name[-21:]
