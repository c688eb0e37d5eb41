"""Scores of a learner on held-out tasks."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from datamodules.episode import Episode, Task
from modules.functional.tasks.networks import Variables
from modules.learner.classifier import predict_inductive
from modules.learner.inference_mode import ordinary, outside_inference_mode
from modules.learner.method import Method
from modules.learner.scores import Protocol, Score

CURVE_STEPS = (0, 1, 2, 3, 5, 10, 20, 50)  # the inner steps after which the adaptation curve is read


def curve_steps(learner: Method) -> list[int]:
    """The inner steps at which the adaptation curve is read; none for a method without inner steps."""
    last = learner.eval_inner_steps
    return sorted({step for step in CURVE_STEPS if step < last} | {last}) if last else []


def scores_of_states(learner: Method, params: Variables, episode: Episode, both_protocols: bool) -> dict[Score, Tensor]:
    """Adapts to each task's support set and scores its queries: the default of a learner's `scores`.

    Args:
        learner: In evaluation mode.
        params: Its meta-parameters and buffers.
        episode: T tasks with their noise.
        both_protocols: Whether to score the queries together (transductive) and one by one (inductive), where that
            differs; otherwise as the learner's `transductive` says.

    Returns:
        score -> (T,): the loss and the objective's score, and the latter after the inner steps of `curve_steps`.
    """
    task, last = episode.task, learner.eval_inner_steps
    loss, score, name = learner.objective.loss, learner.objective.score, learner.objective.score_name
    used = slice(task.n_way)  # of the outputs: a network of more than the task has classes leaves the last ones unused

    def together(state: Any) -> Tensor:
        return learner.predict(params, state, episode.query_x)[..., used]  # (T, Q, n_way)

    def one_by_one(state: Any) -> Tensor:
        return predict_inductive(learner, params, state, task.x, episode.query_x)[..., used]

    headline, other = (together, one_by_one) if learner.transductive else (one_by_one, together)
    curve, scores, outputs = curve_steps(learner), {}, torch.empty(0)
    with learner.remembering(params, episode):
        for step, state in enumerate(learner.adapt(params, task, last)):
            if step in curve or not curve:
                outputs = headline(state)
                scores[Score(name, after_step=step)] = score(outputs, episode.query_y).mean(1)
    if not curve:
        del scores[Score(name, after_step=0)]
    scores[Score("loss")] = loss(outputs, episode.query_y).mean(1)
    scores[Score(name)] = score(outputs, episode.query_y).mean(1)
    if both_protocols and learner.sees_other_queries:
        protocols: list[Protocol] = ["transductive", "inductive"]
        both = zip(protocols if learner.transductive else protocols[::-1], (outputs, other(state)), strict=True)
        for protocol, answers in both:
            scores[Score(name, protocol=protocol)] = score(answers, episode.query_y).mean(1)
    return scores


@outside_inference_mode
def answers_after(
    learner: Method, task_id: Tensor, task: Task, query_x: Tensor, steps: Collection[int]
) -> dict[int, Tensor]:
    """Returns what a learner answers on its way: after some of its inner steps, inductively.

    Args:
        learner: The learner, which is put into evaluation mode.
        task_id: (T,) int64.
        task: T tasks.
        query_x: (T, Q, *input_shape).
        steps: Numbers of inner steps, at most `eval_inner_steps`.

    Returns:
        Step -> (T, Q, n_outputs), float32.
    """
    learner.eval()
    params, last = ordinary(learner.variables(len(task_id))), learner.eval_inner_steps
    task = task._replace(noise=learner.draw_noise(task_id, task.x.shape[1], last))
    answers = {}
    for step, state in enumerate(learner.adapt(params, task, last)):
        if step in steps:
            outputs = predict_inductive(learner, params, state, task.x, query_x)
            answers[step] = learner.objective.answer(outputs).float()
    return answers
