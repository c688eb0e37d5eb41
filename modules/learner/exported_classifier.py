"""A classifier as a module of its own, preprocessing included: what is written for programs without this one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from modules.functional.images.preprocessing import Preprocessing
from modules.learner.classifier import Classifier, predict_with_support, prediction_passes


class ExportedClassifier(nn.Module):
    """Images in, probabilities out, the same for every learner. What it needs of the learner it holds as buffers.

    Args:
        classifier: Of one task, on the CPU.
        preprocessing: What images are turned into.

    Raises:
        ValueError: If the classifier is of several tasks, or its network's batch cannot be taken apart.
    """

    def __init__(self, classifier: Classifier, preprocessing: Preprocessing) -> None:
        super().__init__()
        learner, support_x = classifier.learner, classifier.task.x
        if len(support_x) != 1:
            raise ValueError(f"one classifier is exported at a time, got {len(support_x)}: take one support set.")
        passes = prediction_passes(learner, classifier.params, classifier.state, support_x)
        if learner.sees_other_queries and not passes.can_share_a_batch():
            raise ValueError(
                f"{type(learner).__name__}'s network looks across its batch by more than batch normalisation, so that "
                "images asked about together would change each other's answers: use a backbone with running_stats."
            )
        self._learner = (learner,)  # in a tuple, so that its own weights are no part of this module
        self.preprocessing = preprocessing
        self.n_way, self.temperature = classifier.n_way, classifier.temperature
        leaves, self._layout = tree_flatten(classifier.state)
        self._leaves = dict(enumerate(leaves))
        self._hold("state", {str(i): leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)})
        self._param_names = list(classifier.params)
        self._hold("params", classifier.params)
        self._hold("support", {"x": support_x} if learner.sees_other_queries else {})
        self.float().eval()

    def forward(self, images: Tensor) -> Tensor:
        """The probability of each class for each image; an image's answer does not depend on the others.

        Args:
            images: (B, 3, height, width) uint8, RGB, of any height and width.

        Returns:
            (B, n_way) float32; each row sums to 1.
        """
        learner = self._learner[0]
        params = {name: self._held("params", name) for name in self._param_names}
        leaves = [self._held("state", str(i)) if isinstance(v, Tensor) else v for i, v in self._leaves.items()]
        state: Any = tree_unflatten(leaves, self._layout)
        queries = self.preprocessing(images)  # (B, C, H, W)
        if learner.sees_other_queries:
            outputs = predict_with_support(learner, params, state, self._held("support", "x"), queries)
        else:
            with learner.sharing_weights():
                outputs = learner.predict(params, state, queries.unsqueeze(0)).squeeze(0)  # (B, n_outputs)
        return torch.softmax(outputs[:, : self.n_way].float() / self.temperature, dim=-1)

    def _hold(self, group: str, tensors: Mapping[str, Tensor]) -> None:
        for name, value in tensors.items():
            self.register_buffer(_buffer_name(group, name), value.detach().clone())

    def _held(self, group: str, name: str) -> Tensor:
        return self.get_buffer(_buffer_name(group, name))


def _buffer_name(group: str, name: str) -> str:
    """A buffer's name may hold no dot."""
    return f"{group}/{name.replace('.', '/')}"
