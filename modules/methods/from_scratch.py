"""Training from scratch on the support set: what meta-learning has to beat."""

from typing import Literal

import torch
from torch import Tensor

from datamodules.episode import Episode
from modules.backbones.backbone import Backbone
from modules.functional.inner_loop import Update, adam, sgd
from modules.functional.tasks.networks import Variables
from modules.learner.gradient_learner import GradientLearner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive


class FromScratch(GradientLearner):
    """Trains a network of random weights on each task's support set; `fit` changes nothing, one step of it is enough.

    Every task begins with the same random weights, which `seed_everything` draws.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, for 28x28 greyscale.
        inner_optimizer: "adam" or "sgd".
        inner_lr: Step size.
        inner_steps: Steps on the whole support set.
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop; only how tasks are computed matters.

    Checked:
        reference: torch's Adam and SGD on each task alone.
    """

    through_steps = False

    def __init__(
        self,
        n_way: int = 5,
        backbone: Backbone | None = None,
        inner_optimizer: Literal["adam", "sgd"] = "adam",
        inner_lr: float = 1e-3,
        inner_steps: int = 100,
        transductive: bool = True,
        outer: OuterLoop = OuterLoop(),
    ) -> None:
        check_positive(inner_lr=inner_lr)
        if outer.weight_decay:
            raise ValueError(f"FromScratch keeps its weights: set outer.weight_decay to 0, got {outer.weight_decay}.")
        super().__init__(n_way, backbone, inner_steps, None, transductive, outer)
        self.save_hyperparameters()
        self.inner_optimizer, self.inner_lr = inner_optimizer, inner_lr

    def inner_update(self, params: Variables) -> Update:
        """The optimiser, with its usual settings."""
        return adam(self.inner_lr, beta1=0.9) if self.inner_optimizer == "adam" else sgd(self.inner_lr)

    @torch.no_grad()
    def outer_gradients(self, params: Variables, episode: Episode) -> tuple[Variables, dict[str, Tensor]]:
        """A gradient of 0 for everything; the scores of networks trained on the support sets."""
        losses, outputs = self.query_loss(params, episode)
        score = self.objective.score(outputs, episode.query_y).mean()
        nothing = {name: torch.zeros_like(value) for name, value in self.trainable(params).items()}
        return nothing, {"loss": losses.mean(), self.objective.score_name: score}
