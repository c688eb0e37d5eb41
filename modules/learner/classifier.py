"""The function that a learner makes from a support set, as it is handed to a user."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from datamodules.episode import Task
from modules.functional.tasks.networks import Variables
from modules.learner.inference_mode import ordinary, outside_inference_mode
from modules.learner.method import Method
from modules.learner.passes import Passes

# Numbers in the feature maps computed at once: what a CPU is fastest with, and 2 GB of float32 on a GPU.
CPU_FEATURES, GPU_FEATURES = 5_000_000, 500_000_000


class Classifier:
    """Classifies images by a learner adapted to T support sets. Inductive: an image's answer does not depend on what
    else is asked.

    Args:
        learner: A trained learner.
        task: The support sets; classes may have different numbers of images. Fewer classes than the learner has outputs
            leave the last ones unused.
        temperature: What the logits are divided by; above 1 the answers are less sure.

    Raises:
        ValueError: If there are more classes than outputs.
    """

    @outside_inference_mode
    def __init__(self, learner: Method, task: Task, temperature: float = 1.0) -> None:
        check_classes(learner, task.n_way)
        learner.eval()
        task_id = torch.zeros(len(task.x), dtype=torch.int64, device=task.x.device)
        steps = learner.eval_inner_steps
        self.task = task._replace(noise=learner.draw_noise(task_id, task.x.shape[1], steps))
        self.learner, self.temperature = learner, temperature
        self.params = ordinary(learner.variables(len(task_id)))
        *_, self.state = learner.adapt(self.params, self.task, steps)

    @property
    def n_way(self) -> int:
        """The number of classes."""
        return self.task.n_way

    def __call__(self, query_x: Tensor) -> Tensor:
        """The probability of each class for each image; in regression the value, of an n_way of 1.

        Args:
            query_x: (T, Q, *input_shape).

        Returns:
            (T, Q, n_way), float32; each row of probabilities sums to 1.
        """
        return self.learner.objective.answer(self.logits(query_x))

    @outside_inference_mode
    def logits(self, query_x: Tensor) -> Tensor:
        """Returns what the probabilities are the softmax of: (T, Q, *input_shape) to (T, Q, n_way), float32."""
        if self.learner.sees_other_queries:  # `predict_inductive` divides them by itself
            parts = (query_x,)
        else:
            two = query_x[:, :2]
            passes = prediction_passes(self.learner, self.params, self.state, two)
            parts = query_x.split(queries_at_once(passes, two.shape[1], query_x.device.type), dim=1)
        outputs = [predict_inductive(self.learner, self.params, self.state, self.task.x, part) for part in parts]
        return torch.cat(outputs, dim=1)[..., : self.n_way].float() / self.temperature


def check_classes(learner: Method, n_way: int) -> None:
    """Checks that a learner has an output for each class.

    Raises:
        ValueError: If it has fewer.
    """
    if learner.fixed_way is not None and n_way > learner.fixed_way:
        raise ValueError(
            f"this {type(learner).__name__} was trained with {learner.fixed_way} outputs, but there are {n_way} "
            f"classes: train with --data.n_way {n_way}, or use a method that takes any number, such as ProtoNet."
        )


def predict_inductive(learner: Method, params: Variables, state: Any, support_x: Tensor, query_x: Tensor) -> Tensor:
    """Outputs that do not depend on the other queries.

    Where a network normalises by its batch's statistics, each query is normalised in one batch with the support set;
    a single task's queries are computed together, as many as suit the device.

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
    if len(query_x) == 1:
        passes = prediction_passes(learner, params, state, torch.cat([support_x, query_x[:, :1]], dim=1))
        if passes.can_share_a_batch():
            parts = query_x[0].split(queries_at_once(passes, 1, query_x.device.type))  # (q, *input_shape) each
            outputs = [predict_with_support(learner, params, state, support_x, part) for part in parts]
            return torch.cat(outputs).unsqueeze(0)  # (1, Q, n_outputs)
    outputs = []
    for query in query_x.split(1, dim=1):  # (T, 1, *input_shape)
        outputs.append(learner.predict(params, state, torch.cat([support_x, query], dim=1))[:, -1:])
    return torch.cat(outputs, dim=1)  # (T, Q, n_outputs)


def predict_with_support(learner: Method, params: Variables, state: Any, support_x: Tensor, queries: Tensor) -> Tensor:
    """One task's outputs for queries of which each is in one batch with the support set, as a task of its own.

    Args:
        learner: One whose prediction passes through networks that can share a batch.
        params: Its meta-parameters and buffers.
        state: One task's adapted state, tensors (1, ...).
        support_x: (1, S, *input_shape).
        queries: (Q, *input_shape).

    Returns:
        (Q, n_outputs).
    """
    n = queries.shape[0]
    repeated = tree_map_only(Tensor, lambda value: value.expand(n, *value.shape[1:]), state)
    buffers = {name: params[name].expand(n, *params[name].shape[1:]) for name in learner.updated_buffers()}
    batches = torch.cat([support_x.expand(n, *support_x.shape[1:]), queries.unsqueeze(1)], dim=1)  # (Q, S + 1, ...)
    with learner.sharing_weights():
        return learner.predict(params | buffers, repeated, batches)[:, -1]


def prediction_passes(learner: Method, params: Variables, state: Any, query_x: Tensor) -> Passes:
    """Returns what the prediction of these queries, (T, Q, *input_shape), passes through the learner's networks."""
    return learner.passes_of(lambda: learner.predict(params, state, query_x))


def queries_at_once(passes: Passes, n_queries: int, device_type: str) -> int:
    """Tells how many queries fit the device well.

    Args:
        passes: What the prediction of some queries takes.
        n_queries: How many those are.
        device_type: "cpu" or "cuda".
    """
    limit = CPU_FEATURES if device_type == "cpu" else GPU_FEATURES
    return max(1, limit * n_queries // max(1, passes.features))
