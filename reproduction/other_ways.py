"""What authors' code does otherwise, and no user needs: settings of the ablations alone.

The constructors pass everything on, so that the configuration has the arguments of the base.
"""

import dataclasses
from typing import Any

from torch import nn

from datamodules import Omniglot
from datamodules.images.bank import ImageBank
from modules import MAML, Conv4


class NormalHead(MAML):
    """MAML whose output layer begins with weights of N(0, 1) and a bias of 0, as in its authors' code for Omniglot."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        head = self.network.get_submodule("head")
        nn.init.normal_(head.weight)  # type: ignore[arg-type]
        nn.init.zeros_(head.bias)  # type: ignore[arg-type]


class SmallWeights(MAML):
    """MAML whose linear layers begin with weights of N(0, 0.01^2), cut off at two standard deviations, and biases of 0.

    So do all layers of its authors' fully connected network.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


class Conv4ByTorch(Conv4):
    """Conv4 that begins as PyTorch's layers do, which ProtoNet's authors leave as they are."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()


class InkIs0(Omniglot):
    """Omniglot as Reptile's authors read it: ink 0 on paper 1."""

    def build_bank(self) -> ImageBank:
        """All characters, inverted."""
        bank = super().build_bank()
        return dataclasses.replace(bank, images=255 - bank.images, cached=None)

    def input_spec(self) -> dict[str, Any]:
        """What a user's image must be turned into: it keeps its paper."""
        return super().input_spec() | {"ink": None}
