"""Batch normalisation of many tasks at once against torch's own, one task after another."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import batch_norm

from modules.functional.tasks.batch_norm import task_batch_norm

T, B, C = 3, 4, 5
SHAPES = [(T * B, C), (T * B, C, 3, 2)]


def tensors(shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(shape, dtype=dtype, generator=generator) + 1
    gamma, beta, mean = torch.randn(3, T, C, dtype=dtype, generator=generator)
    return x, gamma, beta, mean, 1 + torch.rand(T, C, dtype=dtype, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_each_task_has_torchs_outputs_and_running_statistics(shape, training, affine, memory_format) -> None:
    x, gamma, beta, mean, var = tensors(shape)
    x = x.contiguous(memory_format=memory_format) if x.dim() == 4 else x
    own = [(gamma[t], beta[t]) if affine else (None, None) for t in range(T)]
    means, variances = mean.clone(), var.clone()
    expected = [
        batch_norm(part, means[t], variances[t], own[t][0], own[t][1], training, 0.2)
        for t, part in enumerate(x.split(B))
    ]
    weights = (gamma, beta) if affine else (None, None)
    outputs = task_batch_norm(x, mean, var, weights[0], weights[1], training, 0.2)
    torch.testing.assert_close(outputs, torch.cat(expected))
    torch.testing.assert_close(mean, means)
    torch.testing.assert_close(var, variances)


@pytest.mark.parametrize("shape", SHAPES)
def test_first_and_second_derivatives_are_numerical_ones(shape) -> None:
    x, gamma, beta, *_ = (tensor.requires_grad_() for tensor in tensors(shape))

    def normalise(x, gamma, beta):
        return task_batch_norm(x, None, None, gamma, beta, training=True)

    assert gradcheck(normalise, (x, gamma, beta))
    assert gradgradcheck(normalise, (x, gamma, beta))


def test_second_derivatives_are_those_of_torchs_own() -> None:
    """On a batch large enough that numerical derivatives would not tell small terms apart."""
    x, gamma, beta, *_ = (tensor.requires_grad_() for tensor in tensors((T * 40, C, 4, 4)))
    target = torch.randn_like(x)

    def second_order(normalise):
        first = torch.autograd.grad((normalise() * target).tanh().sum(), (x, gamma, beta), create_graph=True)
        return torch.autograd.grad([(g * g.detach().cos()).sum() for g in first], (x, gamma, beta))

    def torchs() -> torch.Tensor:
        parts = [batch_norm(part, None, None, gamma[t], beta[t], True) for t, part in enumerate(x.split(40))]
        return torch.cat(parts)

    ours = second_order(lambda: task_batch_norm(x, None, None, gamma, beta, True))
    torch.testing.assert_close(ours, second_order(torchs))


def test_a_third_derivative_is_refused() -> None:
    x, gamma, beta, *_ = (tensor.requires_grad_() for tensor in tensors((T * B, C, 4, 4)))
    outputs = task_batch_norm(x, None, None, gamma, beta, True).tanh().sum()
    (first,) = torch.autograd.grad(outputs, x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no third derivative"):
        torch.autograd.grad(first.square().sum(), x, create_graph=True)


def test_one_value_per_channel_is_refused() -> None:
    with pytest.raises(ValueError, match="one value per channel"):
        task_batch_norm(torch.rand(T, C), None, None, torch.ones(T, C), training=True)


def test_half_precision_is_computed_in_float32() -> None:
    x, gamma, beta, *_ = tensors((T * B, C, 8, 8), torch.float32)
    x = (x + 100).bfloat16()  # bfloat16 keeps 8 bits: sums in it would be worthless
    outputs = task_batch_norm(x, None, None, gamma, beta, training=True)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs, task_batch_norm(x.float(), None, None, gamma, beta, training=True).bfloat16())
