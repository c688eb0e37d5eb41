"""Model-agnostic meta-learning."""

from collections.abc import Iterator

from torch import Tensor

from datamodules.episode import Task
from modules.backbones.backbone import Backbone
from modules.functional.inner_loop import Update, sgd
from modules.functional.tasks.networks import Variables, names_of_norms, under_prefix
from modules.learner.gradient_learner import GradientLearner
from modules.learner.learn2learn_loop import learn2learn_inner_loop
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive


class MAML(GradientLearner):
    """Learns an initialisation from which a few gradient steps on the support set solve a task.

    The batch's own statistics normalise where the backbone has no running ones, as in the authors' code, so the
    headline score is transductive; the test reports the inductive one too.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, for 28x28 greyscale.
        inner_lr: Step size of the inner loop.
        inner_steps: Inner steps in training.
        eval_inner_lr: Inner step size in evaluation; None: `inner_lr`.
        eval_inner_steps: Inner steps in evaluation; None: `inner_steps`.
        first_order: Drop the second derivatives (FOMAML).
        adapt_norm: Whether the inner loop moves the scales and shifts of normalisation layers too; the authors' code
            leaves them to the outer loop.
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop.

    Reference:
        Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
        Algorithm 2.

    Checked:
        reference: learn2learn, and finite differences in float64.
    """

    in_learn2learn = True

    def __init__(
        self,
        n_way: int = 5,
        backbone: Backbone | None = None,
        inner_lr: float = 0.4,
        inner_steps: int = 1,
        eval_inner_lr: float | None = None,
        eval_inner_steps: int | None = None,
        first_order: bool = False,
        adapt_norm: bool = True,
        transductive: bool = True,
        outer: OuterLoop = OuterLoop(),
    ) -> None:
        check_positive(inner_lr=inner_lr, eval_inner_lr=eval_inner_lr)
        super().__init__(n_way, backbone, inner_steps, eval_inner_steps, transductive, outer)
        self.save_hyperparameters()
        self.inner_lr, self.first_order = inner_lr, first_order
        self.left_alone = frozenset() if adapt_norm else names_of_norms(self.network, "network.")
        self.eval_inner_lr = inner_lr if eval_inner_lr is None else eval_inner_lr

    def fast_params(self, params: Variables) -> Variables:
        """All of the network's weights that are trained; without those of normalisation layers where they stay."""
        return {name: value for name, value in super().fast_params(params).items() if name not in self.left_alone}

    def inner_update(self, params: Variables) -> Update:
        """Gradient descent, equation (1)."""
        return sgd(self.inner_lr if self.training else self.eval_inner_lr)

    def drops_second_derivatives(self) -> bool:
        """Tells whether this is FOMAML."""
        return self.first_order

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Variables]:
        """Gradient steps on the support loss, by learn2learn where that is asked for."""
        if self.task_strategy != "learn2learn" or not self.in_learn2learn:
            return super().adapt(params, task, steps)

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return self.objective.loss(outputs[..., : task.n_way], targets)

        lr = self.inner_lr if self.training else self.eval_inner_lr
        buffers = under_prefix({name: params[name] for name in self.updated_buffers()}, "network.")
        fast = under_prefix(self.fast_params(params), "network.").keys()
        return learn2learn_inner_loop(self.network, buffers, task, loss, lr, steps, self.first_order, fast)
