"""The function that a learner makes from a support set, as it is handed to a user."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datamodules.episode import Support
from modules.functional.networks import Variables

if TYPE_CHECKING:
    from modules.base import Learner


class Classifier:
    """Classifies images by a learner adapted to T support sets. Inductive: an image's answer does not depend on what
    else is asked.

    Args:
        learner: A trained learner.
        support: (T, S, *input_shape) images and their labels in [0, n_way).
        n_way: Number of classes.
    """

    def __init__(self, learner: "Learner", support: Support, n_way: int) -> None:
        learner.eval()
        self.learner, self.support = learner, support
        self.params = learner.variables()
        task_id = torch.zeros(len(support.x), dtype=torch.int64, device=support.x.device)
        steps = learner.eval_inner_steps
        noise = learner.draw_noise(task_id, support.x.shape[1], steps)
        with torch.no_grad():
            *_, self.state = learner.adapt(self.params, support, n_way, steps, noise)

    @torch.no_grad()
    def __call__(self, query_x: Tensor) -> Tensor:
        """The probability of each class for each image.

        Args:
            query_x: (T, Q, *input_shape).

        Returns:
            (T, Q, n_way), float32; each row sums to 1.
        """
        return predict_inductive(self.learner, self.params, self.state, self.support.x, query_x).float().softmax(-1)


def predict_inductive(learner: "Learner", params: Variables, state: Any, support_x: Tensor, query_x: Tensor) -> Tensor:
    """Outputs that do not depend on the other queries.

    Where the network normalises by its batch's statistics, each query is normalised in one batch with the support set.

    Args:
        learner: The learner.
        params: Its meta-parameters and buffers.
        state: The adapted state.
        support_x: (T, S, *input_shape).
        query_x: (T, Q, *input_shape).

    Returns:
        (T, Q, n_outputs).

    Reference:
        Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018, section 6.1, "non-transductive".
    """
    if not learner.sees_other_queries:
        return learner.predict(params, state, query_x)
    outputs = []
    for query in query_x.split(1, dim=1):  # (T, 1, *input_shape)
        outputs.append(learner.predict(params, state, torch.cat([support_x, query], dim=1))[:, -1:])
    return torch.cat(outputs, dim=1)  # (T, Q, n_outputs)
