"""Meta-SGD: MAML with a learned step size for every weight."""

import torch
from torch import Tensor, nn

from modules.backbones.backbone import Backbone
from modules.functional.inner_loop import Update, sgd_with
from modules.functional.tasks.networks import Variables, key_of
from modules.learner.gradient_learner import GradientLearner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive


class MetaSGD(GradientLearner):
    """Learns an initialisation and, for every weight, the size and the sign of its inner step.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, for 28x28 greyscale.
        smallest_lr: Every step size begins as a random number between this and `largest_lr`.
        largest_lr: The upper end of that range.
        inner_steps: Inner steps in training.
        eval_inner_steps: Inner steps in evaluation; None: `inner_steps`.
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop, of the step sizes too.

    Reference:
        Li, Zhou, Chen and Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017, Algorithm 1; the range
        is that of section 4.1.

    Checked:
        reference: learn2learn.
    """

    def __init__(
        self,
        n_way: int = 5,
        backbone: Backbone | None = None,
        smallest_lr: float = 0.005,
        largest_lr: float = 0.1,
        inner_steps: int = 1,
        eval_inner_steps: int | None = None,
        transductive: bool = True,
        outer: OuterLoop = OuterLoop(),
    ) -> None:
        check_positive(smallest_lr=smallest_lr)
        if largest_lr < smallest_lr:
            raise ValueError(f"largest_lr must be smallest_lr = {smallest_lr} or more, got {largest_lr}.")
        super().__init__(n_way, backbone, inner_steps, eval_inner_steps, transductive, outer)
        self.save_hyperparameters()
        self.inner_lr = nn.ParameterDict(
            {
                key_of(name): smallest_lr + (largest_lr - smallest_lr) * torch.rand_like(parameter)
                for name, parameter in self.network.named_parameters()
                if parameter.requires_grad
            }
        )

    @property
    def learned_arguments(self) -> tuple[str, ...]:
        """The step sizes' first values."""
        return "smallest_lr", "largest_lr"

    def inner_update(self, params: Variables) -> Update:
        """theta' = theta - alpha * gradient, equation (2); one alpha of a weight's shape, the same in every step."""

        def rate(step: int, name: str) -> Tensor:
            return params[f"inner_lr.{key_of(name.removeprefix('network.'))}"]  # (*shape)

        return sgd_with(rate)
