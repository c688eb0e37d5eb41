"""Scores of a learner on held-out tasks."""

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from datamodules.episode import Episode, Support
from modules.classifier import predict_inductive
from modules.inference_mode import ordinary, outside_inference_mode
from modules.task_mean import TaskMean

if TYPE_CHECKING:
    from modules.method import Method

N_TASKS = "n_tasks"
CURVE_STEPS = (0, 1, 2, 3, 5, 10, 20, 50)  # the inner steps after which the adaptation curve is read


class TaskScores:
    """Means over the tasks of a validation or test.

    Args:
        names: The scores; the same on every rank, also on one that sees no task.
        device: Where the sums are kept.
    """

    def __init__(self, names: list[str], device: torch.device) -> None:
        self.means = {name: TaskMean().to(device) for name in names}

    def update(self, scores: dict[str, Tensor]) -> None:
        """Adds tasks: name -> (T,)."""
        for name, values in scores.items():
            self.means[name].update(values)

    def compute(self, prefix: str, with_interval: tuple[str, ...]) -> dict[str, Tensor]:
        """The means over all ranks' tasks as PREFIX/NAME, and the number of those tasks as PREFIX/n_tasks.

        For some names the interval too, as PREFIX/ci95..., where there are two tasks or more.
        """
        logged = {}
        for name, mean in self.means.items():
            logged[f"{prefix}/{name}"], half_width = mean.compute()
            logged[f"{prefix}/{N_TASKS}"] = mean.n_tasks.new_tensor(mean.counted)
            if name in with_interval and mean.counted > 1:
                suffix = name.partition("_")[2]
                logged[f"{prefix}/ci95{'_' + suffix if suffix else ''}"] = half_width
        return logged


def score_names(learner: "Method", both_protocols: bool) -> list[str]:
    """The names of the scores that `score_tasks` gives."""
    score = learner.objective.score_name
    names = ["loss", score, *(f"{score}_after_{step}" for step in curve_steps(learner))]
    if both_protocols and learner.sees_other_queries:
        names += [f"{score}_transductive", f"{score}_inductive"]
    return names


def curve_steps(learner: "Method") -> list[int]:
    """The inner steps at which the adaptation curve is read; none for a method without inner steps."""
    last = learner.eval_inner_steps
    return sorted({step for step in CURVE_STEPS if step < last} | {last}) if last else []


def score_tasks(learner: "Method", episode: Episode, both_protocols: bool) -> dict[str, Tensor]:
    """Adapts to each task's support set and scores its queries.

    Args:
        learner: In evaluation mode.
        episode: T tasks.
        both_protocols: Whether to score the queries together (transductive) and one by one (inductive), where that
            differs; otherwise as the learner's `transductive` says.

    Returns:
        name -> (T,).
    """
    params, n_way = ordinary(learner.variables()), episode.class_id.shape[1]
    noise = learner.draw_noise(episode.task_id, episode.support_x.shape[1], learner.eval_inner_steps)
    loss, score, score_name = learner.objective.loss, learner.objective.score, learner.objective.score_name
    used = slice(n_way)  # of the outputs: a network of more than the task has classes leaves the last ones unused
    curve, scores, outputs = curve_steps(learner), {}, torch.empty(0)
    for step, state in enumerate(learner.adapt(params, episode.support, n_way, learner.eval_inner_steps, noise)):
        if step in curve or not curve:
            if learner.transductive:
                outputs = learner.predict(params, state, episode.query_x)[..., used]  # (T, Q, n_way)
            else:
                outputs = predict_inductive(learner, params, state, episode.support_x, episode.query_x)[..., used]
            scores[f"{score_name}_after_{step}"] = score(outputs, episode.query_y).mean(1)
    if not curve:
        del scores[f"{score_name}_after_0"]
    scores |= {"loss": loss(outputs, episode.query_y).mean(1), score_name: score(outputs, episode.query_y).mean(1)}
    if both_protocols and learner.sees_other_queries:
        inductive = predict_inductive(learner, params, state, episode.support_x, episode.query_x)[..., used]
        together = learner.predict(params, state, episode.query_x)[..., used]
        scores[f"{score_name}_inductive"] = score(inductive, episode.query_y).mean(1)
        scores[f"{score_name}_transductive"] = score(together, episode.query_y).mean(1)
    return scores


@outside_inference_mode
def answers_after(
    learner: "Method", task_id: Tensor, support: Support, query_x: Tensor, steps: Collection[int]
) -> dict[int, Tensor]:
    """What a learner answers on its way: after some of its inner steps, inductively.

    Args:
        learner: The learner, which is put into evaluation mode.
        task_id: (T,) int64.
        support: (T, S, ...) examples and their labels; one output for each class.
        query_x: (T, Q, *input_shape).
        steps: Numbers of inner steps, at most `eval_inner_steps`.

    Returns:
        Step -> (T, Q, n_outputs), float32.
    """
    learner.eval()
    params, last = ordinary(learner.variables()), learner.eval_inner_steps
    noise = learner.draw_noise(task_id, support.x.shape[1], last)
    answers = {}
    for step, state in enumerate(learner.adapt(params, support, learner.fixed_way or 1, last, noise)):
        if step in steps:
            outputs = predict_inductive(learner, params, state, support.x, query_x)
            answers[step] = learner.objective.answer(outputs).float()
    return answers
