"""The function that a learner makes from a support set, as it is handed to a user."""

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from datamodules.episode import Support
from modules.functional.networks import Variables
from modules.functional.shared_weights import keeps_tasks_apart
from modules.functional.task_layout import count_features
from modules.inference_mode import ordinary, outside_inference_mode

if TYPE_CHECKING:
    from modules.method import Method

# Numbers in the feature maps computed at once: what a CPU is fastest with, and 2 GB of float32 on a GPU.
CPU_FEATURES, GPU_FEATURES = 5_000_000, 500_000_000


class Classifier:
    """Classifies images by a learner adapted to T support sets. Inductive: an image's answer does not depend on what
    else is asked.

    Args:
        learner: A trained learner.
        support: (T, S, *input_shape) images and their labels in [0, n_way); classes may have different numbers.
        n_way: Number of classes; fewer than the learner's outputs leave the last ones unused.
        temperature: What the logits are divided by; above 1 the answers are less sure.

    Raises:
        ValueError: If there are more classes than outputs.
    """

    @outside_inference_mode
    def __init__(self, learner: "Method", support: Support, n_way: int, temperature: float = 1.0) -> None:
        check_classes(learner, n_way)
        learner.eval()
        self.learner, self.support, self.n_way, self.temperature = learner, support, n_way, temperature
        self.params = ordinary(learner.variables())
        task_id = torch.zeros(len(support.x), dtype=torch.int64, device=support.x.device)
        steps = learner.eval_inner_steps
        noise = learner.draw_noise(task_id, support.x.shape[1], steps)
        *_, self.state = learner.adapt(self.params, support, n_way, steps, noise)

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
        """What the probabilities are the softmax of: (T, Q, *input_shape) to (T, Q, n_way), float32."""
        at_once = queries_at_once(self.learner, query_x, images_each=len(query_x))
        outputs = [
            predict_inductive(self.learner, self.params, self.state, self.support.x, part)
            for part in query_x.split(at_once, dim=1)
        ]
        return torch.cat(outputs, dim=1)[..., : self.n_way].float() / self.temperature


def check_classes(learner: "Method", n_way: int) -> None:
    """Checks that a learner has an output for each class.

    Raises:
        ValueError: If it has fewer.
    """
    if learner.fixed_way is not None and n_way > learner.fixed_way:
        raise ValueError(
            f"this {type(learner).__name__} was trained with {learner.fixed_way} outputs, but there are {n_way} "
            f"classes: train with --data.n_way {n_way}, or use a method that takes any number, such as ProtoNet."
        )


def predict_inductive(learner: "Method", params: Variables, state: Any, support_x: Tensor, query_x: Tensor) -> Tensor:
    """Outputs that do not depend on the other queries.

    Where the network normalises by its batch's statistics, each query is normalised in one batch with the support set;
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
    if len(query_x) == 1 and _keeps_apart(learner.network, query_x.shape[2:]):
        at_once = queries_at_once(learner, query_x, images_each=support_x.shape[1] + 1)
        parts = query_x[0].split(at_once)  # (q, *input_shape) each
        outputs = [predict_with_support(learner, params, state, support_x, part) for part in parts]
        return torch.cat(outputs).unsqueeze(0)  # (1, Q, n_outputs)
    outputs = []
    for query in query_x.split(1, dim=1):  # (T, 1, *input_shape)
        outputs.append(learner.predict(params, state, torch.cat([support_x, query], dim=1))[:, -1:])
    return torch.cat(outputs, dim=1)  # (T, Q, n_outputs)


def predict_with_support(
    learner: "Method", params: Variables, state: Any, support_x: Tensor, queries: Tensor
) -> Tensor:
    """One task's outputs for queries of which each is in one batch with the support set, as a task of its own.

    Args:
        learner: One whose network `keeps_tasks_apart`.
        params: Its meta-parameters and buffers.
        state: One task's adapted state, tensors (1, ...).
        support_x: (1, S, *input_shape).
        queries: (Q, *input_shape).

    Returns:
        (Q, n_outputs).
    """
    n = queries.shape[0]
    repeated = tree_map_only(Tensor, lambda value: value.expand(n, *value.shape[1:]), state)
    batches = torch.cat([support_x.expand(n, *support_x.shape[1:]), queries.unsqueeze(1)], dim=1)  # (Q, S + 1, ...)
    with learner.sharing_weights():
        return learner.predict(params, repeated, batches)[:, -1]


def queries_at_once(learner: "Method", query_x: Tensor, images_each: int) -> int:
    """How many queries fit the device well.

    Args:
        learner: The learner.
        query_x: (T, Q, *input_shape).
        images_each: Images that go through the network for one query.
    """
    features = count_features(learner.network, query_x.shape[2:]) or 1
    limit = CPU_FEATURES if query_x.device.type == "cpu" else GPU_FEATURES
    return max(1, limit // (images_each * features))


_APART: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _keeps_apart(network: nn.Module, input_shape: torch.Size) -> bool:
    """Found out once for each network."""
    if network not in _APART:
        _APART[network] = keeps_tasks_apart(network, input_shape)
    return _APART[network]
