"""The inner loop, for T tasks at once: gradient steps on each task's own loss, from weights that the tasks share."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from modules.functional.tasks.networks import Variables

# (step, fast weights (T, *shape)) -> each task's loss (T,)
Loss = Callable[[int, Variables], Tensor]
# (step, each task's loss (T,), weights, gradients, moments) -> (weights, moments); moments are empty at the first step
Update = Callable[[int, Tensor, Variables, Variables, Variables], tuple[Variables, Variables]]


def inner_loop(
    support_loss: Loss,
    params: Variables,
    update: Update,
    steps: int,
    first_order: bool = False,
    keep_graph: bool = False,
) -> Iterator[Variables]:
    """Adapts T sets of weights by `steps` gradient steps, each on its own task's loss.

    Args:
        support_loss: The loss of every task at a step, as a function of its fast weights.
        params: Initial weights, name -> (T, *shape).
        update: The optimiser's rule, such as `sgd` or `adam`; it is given the loss too.
        steps: Number of steps.
        first_order: Treat the inner gradients as constants when differentiating the result (FOMAML).
        keep_graph: Whether the result stays connected to `params`, so that an outer loss can be differentiated through
            the steps. False, in evaluation and for Reptile, needs the memory of one step only.

    Yields:
        The fast weights after 0, 1, ..., `steps` steps, name -> (T, *shape).

    Reference:
        Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
        equation (1).
    """
    moments: Variables = {}
    yield params
    for step in range(steps):
        if not keep_graph:
            params = {name: value.detach().requires_grad_() for name, value in params.items()}
        with torch.enable_grad():
            loss = support_loss(step, params)  # (T,)
            gradients = task_gradients(loss, params, differentiable=keep_graph and not first_order)
            params, moments = update(step, loss if keep_graph else loss.detach(), params, gradients, moments)
        yield params if keep_graph else {name: value.detach() for name, value in params.items()}


def task_gradients(loss: Tensor, params: Variables, differentiable: bool) -> Variables:
    """The gradient of each task's loss with respect to its own weights.

    No task's loss depends on another's weights, so one backward pass of the sum gives every task its own gradient.

    Args:
        loss: (T,).
        params: name -> (T, *shape).
        differentiable: Whether the gradients will be differentiated in turn (second order).

    Returns:
        name -> (T, *shape).
    """
    gradients = torch.autograd.grad(loss.sum(), list(params.values()), create_graph=differentiable)
    return dict(zip(params, gradients, strict=True))


def sgd(lr: float) -> Update:
    """Gradient descent: theta <- theta - lr * g."""

    def update(
        step: int, loss: Tensor, params: Variables, gradients: Variables, moments: Variables
    ) -> tuple[Variables, Variables]:
        return {name: torch.add(value, gradients[name], alpha=-lr) for name, value in params.items()}, moments

    return update


def sgd_with(rate: Callable[[int, str], Tensor]) -> Update:
    """Gradient descent with step sizes of their own, learned ones: theta <- theta - alpha * g, product by product.

    Args:
        rate: (step, name) -> alpha, of any shape that broadcasts against the weights (T, *shape).

    Reference:
        Li, Zhou, Chen and Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017, equation (2).
    """

    def update(
        step: int, loss: Tensor, params: Variables, gradients: Variables, moments: Variables
    ) -> tuple[Variables, Variables]:
        return {name: value - rate(step, name) * gradients[name] for name, value in params.items()}, moments

    return update


def adam(
    lr: float, beta1: float = 0.0, beta2: float = 0.999, eps: float = 1e-8, before: Tensor | None = None
) -> Update:
    """Adam; with beta1 = 0, Reptile's inner optimiser, only the second moment is carried from step to step.

    Computes m <- beta1 * m + (1 - beta1) * g, v <- beta2 * v + (1 - beta2) * g^2 and theta <- theta - lr *
    m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps), with m = v = 0 at the start of every task unless the first step
    is given moments.

    Args:
        lr: Step size.
        beta1: Decay of the mean gradient.
        beta2: Decay of the mean square.
        eps: Keeps the quotient finite.
        before: () int64, the steps that the moments before the first one come from, with beta1 = 0; None: none.

    Reference:
        Kingma and Ba, "Adam", ICLR 2015, Algorithm 1; beta1 = 0 as in Nichol, Achiam and Schulman, "On First-Order
        Meta-Learning Algorithms", 2018, section 6.1.
    """
    if before is not None and beta1:
        raise ValueError("adam goes on from given moments with beta1 = 0 alone.")

    def update(
        step: int, loss: Tensor, params: Variables, gradients: Variables, moments: Variables
    ) -> tuple[Variables, Variables]:
        # Fused: the step is bound by memory.
        moved = {
            name: torch.addcmul(beta2 * moments[name], gradient, gradient, value=1 - beta2)
            if moments
            else (1 - beta2) * gradient.square()
            for name, gradient in gradients.items()
        }
        correction = 1 - beta2 ** (step + 1) if before is None else _of_mean(beta2, before + step + 1)
        root = {name: (moment / correction).sqrt() for name, moment in moved.items()}
        direction = gradients
        if beta1:
            first = {f"first of {name}": (1 - beta1) * gradient for name, gradient in gradients.items()}
            moved |= {name: beta1 * moments[name] + value if moments else value for name, value in first.items()}
            direction = {name: moved[f"first of {name}"] / (1 - beta1 ** (step + 1)) for name in gradients}
        divisor = {name: (root[name] + eps).to(value.dtype) for name, value in params.items()}
        return {n: torch.addcdiv(value, direction[n], divisor[n], value=-lr) for n, value in params.items()}, moved

    return update


def _of_mean(decay: float, steps: Tensor) -> Tensor:
    """1 - decay^steps, (), to the last digit also where it is small."""
    return -torch.expm1(steps.to(torch.float64) * math.log(decay))
