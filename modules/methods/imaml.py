"""MAML with implicit gradients: the outer gradient needs where the inner loop ended, not how it got there."""

from collections.abc import Callable

import torch
from torch import Tensor

from datamodules.episode import Episode
from modules.backbones.backbone import Backbone
from modules.functional.inner_loop import Update, sgd
from modules.functional.tasks.networks import Variables
from modules.learner.gradient_learner import GradientLearner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive

TINY = 1e-20  # a squared residual below which a system counts as solved


class IMAML(GradientLearner):
    """Learns an initialisation to which the inner loop is held by a spring, through the optimum that this makes.

    The inner loop descends the support loss plus lambda / 2 |phi - theta|^2. At its minimum the outer gradient solves
    (I + H / lambda) x = g, with H the Hessian of the support loss and g the gradient of the query loss, both at phi.
    Where the inner loop stops early, phi is no minimum and the matrix may be indefinite, so that conjugate gradients do
    not solve it. A few of them solve the damped ((1 + cg_damping) I + H / (lambda + lam_damping)) x = g instead. Memory
    does not grow with the inner steps.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, for 28x28 greyscale.
        inner_lr: Step size of the inner loop.
        inner_steps: Inner steps in training.
        eval_inner_steps: Inner steps in evaluation; None: `inner_steps`.
        regularisation: lambda, the spring's strength.
        cg_steps: Conjugate gradients; 0: x = g, first order.
        cg_damping: Added to I; 0: equation (6).
        lam_damping: Added to lambda where H is divided by it; 0: equation (6).
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop.

    Reference:
        Rajeswaran, Finn, Kakade and Levine, "Meta-Learning with Implicit Gradients", NeurIPS 2019, Algorithms 1 and 2,
        equations (3) and (6); both dampings are those of the authors' code (`matrix_evaluator`).

    Checked:
        reference: a dense solution of the linear system, and the derivative of the optimum.
    """

    through_steps = False

    def __init__(
        self,
        n_way: int = 5,
        backbone: Backbone | None = None,
        inner_lr: float = 0.1,
        inner_steps: int = 16,
        eval_inner_steps: int | None = None,
        regularisation: float = 2.0,
        cg_steps: int = 5,
        cg_damping: float = 1.0,
        lam_damping: float = 10.0,
        transductive: bool = True,
        outer: OuterLoop = OuterLoop(),
    ) -> None:
        check_positive(inner_lr=inner_lr, regularisation=regularisation)
        if inner_lr * regularisation >= 2:
            raise ValueError(
                f"inner_lr = {inner_lr} times regularisation = {regularisation} must be below 2: the spring alone "
                "would swing ever wider."
            )
        for name, value in (("cg_steps", cg_steps), ("cg_damping", cg_damping), ("lam_damping", lam_damping)):
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value}.")
        super().__init__(n_way, backbone, inner_steps, eval_inner_steps, transductive, outer)
        self.save_hyperparameters()
        self.inner_lr, self.regularisation = inner_lr, regularisation
        self.cg_steps, self.cg_damping, self.lam_damping = cg_steps, cg_damping, lam_damping

    def inner_update(self, params: Variables) -> Update:
        """Gradient descent."""
        return sgd(self.inner_lr)

    def inner_loss(self, fast_params: Variables, initial: Variables, loss: Tensor) -> Tensor:
        """The support loss and the spring's energy, (T,): equation (3)."""
        moved = [(value - initial[name]).flatten(1).square().sum(1) for name, value in fast_params.items()]  # (T,) each
        return loss + 0.5 * self.regularisation * torch.stack(moved).sum(0)

    def outer_gradients(self, params: Variables, episode: Episode) -> tuple[Variables, dict[str, Tensor]]:
        """The damped implicit gradient, a mean over the T tasks."""
        n_way = episode.task.n_way
        *_, state = self.adapt(params, episode.task, self.inner_steps)
        adapted = {name: value.detach().requires_grad_() for name, value in state.items()}  # (T, *shape)
        scale = self.loss_scale()
        outputs = self.predict(params, adapted, episode.query_x)
        losses = self.objective.loss(outputs, episode.query_y).mean(1)  # (T,)
        right = _flat(torch.autograd.grad(losses.sum() * scale, list(adapted.values()))) / scale  # (T, P)
        solution = right
        if self.cg_steps:
            copies = {name: value.detach().clone() for name, value in params.items()}  # no statistics are updated twice
            support_outputs = self.predict(copies, adapted, episode.task.x)[..., :n_way]
            support_loss = self.objective.loss(support_outputs, episode.task.y).mean(1)  # (T,)
            total = support_loss.sum() * scale
            strength = self.regularisation + self.lam_damping
            gradient = _flat(torch.autograd.grad(total, list(adapted.values()), create_graph=True))

            def product(vector: Tensor) -> Tensor:
                hessian = torch.autograd.grad(gradient, list(adapted.values()), vector, retain_graph=True)
                return (1 + self.cg_damping) * vector + _flat(hessian) / (scale * strength)

            solution = conjugate_gradient(product, right, self.cg_steps)
        sizes = [value[0].numel() for value in adapted.values()]
        means = solution.mean(0).split(sizes)
        gradients = {n: mean.view_as(params[n]) for (n, mean) in zip(adapted, means, strict=True)}
        score = self.objective.score(outputs.detach(), episode.query_y).mean()
        return gradients, {"loss": losses.detach().mean(), self.objective.score_name: score}


def _flat(values: tuple[Tensor, ...]) -> Tensor:
    """(T, *shape) each -> (T, P), in float32 at least."""
    flat = torch.cat([value.flatten(1) for value in values], dim=1)
    return flat.to(torch.promote_types(flat.dtype, torch.float32))


def conjugate_gradient(product: Callable[[Tensor], Tensor], right: Tensor, steps: int) -> Tensor:
    """Solves A x = b for each task, beginning with x = 0.

    Args:
        product: A v for each task, (T, P) -> (T, P); A symmetric and, for the solution to be one, positive definite.
        right: b, (T, P).
        steps: Iterations at most; P of them solve the system but for round-off.

    Returns:
        x, (T, P). A task whose direction A does not curve upwards stays where it is.

    Reference:
        Hestenes and Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952.
    """
    x = torch.zeros_like(right)
    residual = direction = right
    squared = residual.square().sum(1, keepdim=True)  # (T, 1)
    for _ in range(steps):
        image = product(direction)  # (T, P)
        curvature = (direction * image).sum(1, keepdim=True)
        is_resumed = (squared > TINY) & (curvature > 0)
        alpha = torch.where(is_resumed, squared / torch.where(is_resumed, curvature, 1), 0)  # (T, 1)
        x = x + alpha * direction
        residual = residual - alpha * image
        following = residual.square().sum(1, keepdim=True)
        beta = torch.where(is_resumed, following / torch.where(is_resumed, squared, 1), 0)
        direction, squared = residual + beta * direction, torch.where(is_resumed, following, 0)
    return x
