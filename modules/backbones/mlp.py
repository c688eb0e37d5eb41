"""Fully connected networks."""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from modules.backbones.backbone import Backbone


class MLP(Backbone):
    """Linear layers with an activation behind each: for regression, and MAML's fully connected network for images.

    Args:
        input_shape: Of an example, flattened first: [1] for a sinusoid's x, [1, 28, 28] for a greyscale image.
        widths: Outputs of each layer; the last is the features' length.
        activation: "relu" or "tanh".
        batch_norm: Normalise before each activation.
        running_stats: Normalise by running statistics in evaluation (inductive) instead of always by the batch's own
            (transductive where queries share a batch).
        weights: A file to begin from: a state_dict, or a checkpoint of a learner with such a backbone.
        frozen: Keep the weights as they are.

    Reference:
        Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning", ICML 2017: section 5.1, two layers of 40, and section
        5.2, "MAML, no conv", 256, 128, 64 and 64 with batch normalisation. Reptile's sinusoids: 64 and 64 with tanh.
        Deviation: initialised as PyTorch's linear layers are; the authors draw weights of standard deviation 0.01.
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (1,),
        widths: Sequence[int] = (40, 40),
        activation: Literal["relu", "tanh"] = "relu",
        batch_norm: bool = False,
        running_stats: bool = False,
        weights: str | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        if not widths or not input_shape or min([*widths, *input_shape]) < 1:
            raise ValueError(
                f"an MLP needs one layer or more, of one unit or more: got widths = {list(widths)} and "
                f"input_shape = {list(input_shape)}."
            )
        layers: list[nn.Module] = []
        for before, after in zip((math.prod(input_shape), *widths[:-1]), widths, strict=True):
            layers.append(nn.Linear(before, after, bias=not batch_norm))  # which would take it out again
            layers += [nn.BatchNorm1d(after, track_running_stats=running_stats)] if batch_norm else []
            layers.append(nn.ReLU() if activation == "relu" else nn.Tanh())
        self.layers = nn.Sequential(*layers)
        self.feature_dim, self.input_shape = widths[-1], tuple(input_shape)
        self._begin(weights, frozen)

    def embed(self, images: Tensor) -> Tensor:
        """Examples (B, *input_shape) to features (B, D)."""
        features: Tensor = self.layers(images.flatten(1))
        return features
