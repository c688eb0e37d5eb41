"""Pictures of functions: what the learner made of a few points after 0, 1, 5, 10 inner steps, beside the truth."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modules import Learner
from modules.learner.evaluation import answers_after

STEPS = (0, 1, 5, 10)
N_TASKS, N_POINTS = 2, 201
TRUTH, POINTS, GRID = "#24292f", "#cf222e", "#d8dee4"
COLOURS = ("#8fbff8", "#0550ae")  # of the curve before the first step, and of the last
DASHES = ("dotted", "dashed", "dashdot", (0, (6, 1)), "solid")  # from the first curve to the last


class Curves(NamedTuple):
    """One task, drawn."""

    support_x: Tensor  # (K,)
    support_y: Tensor  # (K,)
    x: Tensor  # (P,), increasing
    truth: Tensor  # (P,)
    fitted: dict[int, Tensor]  # after so many inner steps: (P,)


def draw_curves(path: Path, learner: Learner, data: Any, step: int) -> None:
    """Draws the first two validation tasks of functions of one number.

    Args:
        path: The PNG file.
        learner: The learner.
        data: A data module whose `curve` gives the true functions, x first among their inputs.
        step: The outer step.

    Reference:
        Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, figure
        2.
    """
    task_id = torch.arange(N_TASKS, device=learner.device)
    episode, (x, truth) = data.episode("val", task_id), data.curve("val", task_id, N_POINTS)
    fitted = answers_after(learner, task_id, episode.task, x.to(episode.task.x), steps_drawn(learner))
    tasks = [
        Curves(
            episode.task.x[i, :, 0].float().cpu(),
            episode.task.y[i].float().cpu(),
            x[i, :, 0].cpu(),
            truth[i].cpu(),
            {steps: values[i, :, 0].cpu() for steps, values in fitted.items()},
        )
        for i in range(N_TASKS)
    ]
    save_curves(path, tasks, f"step {step:,}: two functions, each from {episode.task.y.shape[1]} of its points")


def steps_drawn(learner: Learner) -> list[int]:
    """The inner steps after which a curve is drawn: the usual ones that the learner takes, and its last."""
    last = learner.eval_inner_steps
    return sorted({step for step in STEPS if step <= last} | {last})


def save_curves(path: Path, tasks: list[Curves], title: str) -> None:
    """Draws tasks side by side.

    Args:
        path: The PNG file.
        tasks: What is drawn.
        title: What stands above all.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(tasks), 4.4), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    for number, task in enumerate(tasks):
        axes = figure.add_subplot(1, len(tasks), number + 1)
        _draw_task(axes, task)
        axes.set_title(f"validation task {number}", fontsize=9, loc="left", color=TRUTH)
        axes.set_xlabel("x", fontsize=9)
        if number == 0:
            axes.set_ylabel("y", fontsize=9)
    figure.savefig(path)


def _draw_task(axes: Any, task: Curves) -> None:
    axes.plot(task.x, task.truth, color=TRUTH, linewidth=1.2, label="true function", zorder=3)
    for number, (steps, values) in enumerate(task.fitted.items()):
        last = number == len(task.fitted) - 1
        error = float((values - task.truth).square().mean())
        label = f"{steps} step{'' if steps == 1 else 's'}, mse {error:.3g}"
        dashes = DASHES[-1] if last else DASHES[number]
        colour = _between(*COLOURS, 1.0 if last else number / (len(task.fitted) - 1))
        axes.plot(task.x, values, color=colour, linestyle=dashes, linewidth=2.4 if last else 1.8, label=label, zorder=2)
    axes.scatter(
        task.support_x, task.support_y, color=POINTS, marker="^", s=34, label="support points", zorder=4, clip_on=False
    )
    low, high = _limits(task)
    axes.set_xlim(float(task.x[0]), float(task.x[-1]))
    axes.set_ylim(low, high)
    axes.grid(color=GRID, linewidth=0.6)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)


def _limits(task: Curves) -> tuple[float, float]:
    """Returns those of y: around the truth, so that a wild fit leaves it readable."""
    low, high = float(task.truth.min()), float(task.truth.max())
    margin = max(0.6 * (high - low), 0.5)
    every = torch.cat([task.truth, *task.fitted.values()]).nan_to_num().clamp(low - margin, high + margin)
    return float(every.min()) - 0.1, float(every.max()) + 0.1


def _between(first: str, last: str, share: float) -> tuple[float, float, float]:
    """A colour on the way from one to the other."""
    ends = [[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in (first, last)]
    red, green, blue = (a + (b - a) * share for a, b in zip(*ends, strict=True))
    return red, green, blue
