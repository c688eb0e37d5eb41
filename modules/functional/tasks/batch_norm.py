"""Batch normalisation of T tasks at once, by the statistics of each task's own batch, with its second derivative."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx


def task_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalises each task's batch for itself; the arguments of `torch.nn.functional.batch_norm`.

    Args:
        x: (T * B, C) or (T * B, C, H, W), task by task.
        running_mean: (T, C) or None. In training updated in place.
        running_var: (T, C) or None. In training updated in place.
        weight: (T, C), gamma, or None.
        bias: (T, C), beta, or None.
        training: Whether to normalise by the batch's statistics instead of the running ones.
        momentum: The batch's share in the running statistics.
        eps: Added to the variance.

    Returns:
        As x.

    Reference:
        Ioffe and Szegedy, "Batch Normalization", ICML 2015, Algorithm 1.
    """
    n_tasks = len(next(v for v in (weight, running_mean) if v is not None))
    last = x.movedim(1, -1)  # (T * B, H, W, C): in memory too where x is channels_last
    rows = last.reshape(n_tasks, -1, x.shape[1])  # (T, N, C), N = B * H * W
    gamma = x.new_ones(n_tasks, 1, x.shape[1]) if weight is None else weight.unsqueeze(1)
    beta = x.new_zeros(n_tasks, 1, x.shape[1]) if bias is None else bias.unsqueeze(1)
    if training:
        n = rows.shape[1]
        if n == 1:
            raise ValueError(f"batch statistics of one value per channel mean nothing: got maps {tuple(x.shape)}")
        outputs, mean, variance = _BatchNorm.apply(rows, gamma, beta, eps)
        _update_running(running_mean, mean, momentum)
        _update_running(running_var, variance * (n / (n - 1)), momentum)
    else:
        outputs = _by_running_statistics(rows, running_mean, running_var, gamma, beta, eps)
    return outputs.view(last.shape).movedim(-1, 1)


def _by_running_statistics(
    rows: Tensor, mean: Tensor | None, variance: Tensor | None, gamma: Tensor, beta: Tensor, eps: float
) -> Tensor:
    assert mean is not None
    assert variance is not None
    scale = gamma * (variance.unsqueeze(1) + eps).rsqrt()  # (T, 1, C)
    return torch.addcmul(beta - mean.unsqueeze(1) * scale, rows, scale).to(rows.dtype)


def _update_running(running: Tensor | None, statistic: Tensor, momentum: float) -> None:
    if running is not None:
        running.lerp_(statistic.squeeze(1).to(running.dtype), momentum)


class _BatchNorm(Function):
    """y = gamma * r * (x - mean) + beta with r = (var + eps)^(-1/2); and the mean and variance, without gradients.

    Computed in float32 at least. Written by hand because most of what a second-order step does besides matrix
    products is this: autograd's own double backward of these few lines reads and writes the maps three times as often.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(
            1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32)
        )  # (T, 1, C), as all sums below
        centred = x - mean  # (T, N, C)
        variance = centred.square().mean(1, keepdim=True)
        r = (variance + eps).rsqrt_()
        ctx.save_for_backward(x, gamma, centred, r)
        ctx.mark_non_differentiable(mean, variance)
        return torch.addcmul(beta, centred, gamma * r).to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return *_BatchNormGradient.apply(gradient, *ctx.saved_tensors), None


class _BatchNormGradient(Function):
    """The gradients for x, gamma and beta from that for y, here g; written with the sums s1 = sum(g) and
    s2 = sum(g * c) over a batch of n, where c is the centred input.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, gradient: Tensor, x: Tensor, gamma: Tensor, centred: Tensor, r: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        g = gradient.to(centred.dtype)
        n = centred.shape[1]
        s1, s2 = g.sum(1, keepdim=True), (g * centred).sum(1, keepdim=True)
        of_g = gamma * r  # the coefficients of g, c and 1 in the gradient for x
        of_c, constant = of_g * r * r * s2 / -n, of_g * s1 / -n
        ctx.save_for_backward(g, gamma, centred, r, s1, s2, of_g, of_c)
        ctx.dtypes = (gradient.dtype, x.dtype)  # type: ignore[attr-defined]
        for_x = torch.addcmul(constant, centred, of_c).addcmul_(g, of_g)
        return for_x.to(x.dtype), r * s2, s1

    @staticmethod
    def backward(ctx: Any, for_x: Tensor, for_gamma: Tensor, for_beta: Tensor) -> tuple[Tensor | None, ...]:
        """The cotangents v of the gradient for x, and of those for gamma and beta, to those of g, x and gamma."""
        if torch.is_grad_enabled():  # `once_differentiable` would let `autograd.grad` by chosen inputs pass, wrong
            raise NotImplementedError("task_batch_norm has no third derivative: use another task_strategy")
        g, gamma, c, r, s1, s2, of_g, of_c = ctx.saved_tensors
        n = c.shape[1]
        v = for_x.to(c.dtype)
        product = v * g
        q0, q1 = v.sum(1, keepdim=True), product.sum(1, keepdim=True)
        q2 = torch.mul(v, c, out=product).sum(1, keepdim=True)
        r2 = r * r
        by_s1 = for_beta - of_g * q0 / n  # derivatives of the whole by s1, s2, gamma (but for for_gamma's part) and r
        by_s2 = for_gamma * r - of_g * r2 * q2 / n
        by_gamma = r * (q1 - r2 * s2 * q2 / n - s1 * q0 / n)
        by_r = gamma * (q1 - 3 * r2 * s2 * q2 / n - s1 * q0 / n) + for_gamma * s2
        to_g = torch.addcmul(by_s1, c, by_s2).addcmul_(v, of_g)
        # r depends on x by dr/dc = -r^3 c / n, and c = x - mean(x) takes the mean out again.
        constant = (of_c * q0 + by_s2 * s1) / -n
        to_x = torch.addcmul(constant, c, by_r * r2 * r / -n, out=product).addcmul_(v, of_c).addcmul_(g, by_s2)
        return to_g.to(ctx.dtypes[0]), to_x.to(ctx.dtypes[1]), by_gamma, None, None
