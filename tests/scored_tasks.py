"""The scores of held-out tasks, as an evaluation of a learner computes them."""

import torch
from torch import Tensor

from datamodules.episode import Episode
from modules import Learner


@torch.no_grad()
def score_tasks(learner: Learner, episode: Episode, both_protocols: bool) -> dict[str, Tensor]:
    """Scores T tasks: label -> (T,)."""
    params = learner.variables(len(episode.task_id))
    scores = learner.scores(params, learner.with_noise(episode), both_protocols)
    return {score.label: values for score, values in scores.items()}
