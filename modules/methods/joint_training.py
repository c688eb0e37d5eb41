"""Pre-training on all tasks at once: what adaptation has to beat."""

import torch
from torch import Tensor

from datamodules.episode import Episode
from modules.backbones.backbone import Backbone
from modules.functional.inner_loop import Update, sgd
from modules.functional.tasks.networks import Variables
from modules.learner.gradient_learner import GradientLearner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive


class JointTraining(GradientLearner):
    """Fits one function to the examples of all tasks, and in evaluation fine-tunes it on the support set.

    A baseline of regression: where tasks disagree it learns their mean. Given what tells the tasks apart as an input
    (`data.oracle`), it is the oracle.

    Args:
        n_way: Outputs of the network.
        backbone: Features below the linear output layer; None: Conv4, for 28x28 greyscale.
        eval_inner_lr: Step size of fine-tuning.
        eval_inner_steps: Steps of fine-tuning.
        outer: The outer loop.

    Reference:
        Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017, section
        5.1, "pretraining on all of the tasks" and "an oracle".

    Checked:
        reference: ordinary training of the network.
    """

    training_loss = "joint_loss"
    objectives = ("regression",)  # a task's labels 0 ... n_way - 1 mean nothing in another task

    def __init__(
        self,
        n_way: int = 1,
        backbone: Backbone | None = None,
        eval_inner_lr: float = 0.01,
        eval_inner_steps: int = 10,
        outer: OuterLoop = OuterLoop(),
    ) -> None:
        check_positive(eval_inner_lr=eval_inner_lr)
        super().__init__(n_way, backbone, 0, eval_inner_steps, transductive=True, outer=outer)
        self.save_hyperparameters()
        self.eval_inner_lr = eval_inner_lr

    def inner_update(self, params: Variables) -> Update:
        """Gradient descent."""
        return sgd(self.eval_inner_lr)

    def training_metrics(self, losses: Tensor, outputs: Tensor, episode: Episode) -> dict[str, Tensor]:
        """The loss of the weights as they are; no task is adapted to, so that there is no query loss."""
        return {self.training_loss: losses.mean()}

    def query_loss(self, params: Variables, episode: Episode) -> tuple[Tensor, Tensor]:
        """The loss of the weights as they are on all of a task's examples, (T,); and the outputs of its queries."""
        x = torch.cat([episode.task.x, episode.query_x], dim=1)  # (T, S + Q, *input_shape)
        y = torch.cat([episode.task.y, episode.query_y], dim=1)  # (T, S + Q)
        outputs = self.run(params, "network", x)[..., : episode.task.n_way]  # (T, S + Q, n_way)
        return self.objective.loss(outputs, y).mean(1), outputs[:, episode.task.x.shape[1] :]
