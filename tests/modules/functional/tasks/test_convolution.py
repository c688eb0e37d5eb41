"""Convolution of many tasks at once against one plain convolution after another."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from modules.functional.tasks.convolution import col2im, im2col, task_conv2d

T, B = 3, 2
LAYOUTS = [  # size of the image, kernel, stride, padding
    ((8, 8), (3, 3), 2, 1),
    ((7, 5), (3, 3), 1, 1),
    ((6, 6), (3, 3), 2, 0),
    ((5, 6), (1, 1), 2, 0),
    ((6, 7), (2, 3), (1, 2), (1, 0)),
    ((4, 4), (4, 4), 4, 0),
]


def tensors(size, kernel, channels=3, filters=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(T * B, channels, *size, dtype=dtype, generator=generator)
    weight = torch.randn(T, filters, channels, *kernel, dtype=dtype, generator=generator)
    return x, weight, torch.randn(T, filters, dtype=dtype, generator=generator)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), LAYOUTS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_each_task_has_its_own_plain_convolution(size, kernel, stride, padding, with_bias) -> None:
    x, weight, bias = tensors(size, kernel)
    outputs = task_conv2d(x, weight, bias if with_bias else None, stride, padding)
    for t, images in enumerate(x.split(B)):
        plain = torch.conv2d(images, weight[t], bias[t] if with_bias else None, stride, padding)
        torch.testing.assert_close(outputs[t * B : (t + 1) * B], plain)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_layouts_do_not_matter(memory_format) -> None:
    x, weight, _ = tensors((8, 8), (3, 3))
    turned = weight.permute(0, 3, 4, 2, 1).contiguous().permute(0, 4, 3, 1, 2)
    outputs = task_conv2d(x.contiguous(memory_format=memory_format), turned, None, 2, 1)
    assert torch.equal(outputs, task_conv2d(x, weight, None, 2, 1))
    assert outputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), LAYOUTS[:4])
def test_first_and_second_derivatives_are_numerical_ones(size, kernel, stride, padding) -> None:
    x, weight, bias = (tensor.requires_grad_() for tensor in tensors(size, kernel, channels=2, filters=2))

    def convolve(x, weight, bias):
        return task_conv2d(x, weight, bias, stride, padding)

    assert gradcheck(convolve, (x, weight, bias))
    assert gradgradcheck(convolve, (x, weight, bias))


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), LAYOUTS)
def test_col2im_is_the_adjoint_of_im2col(size, kernel, stride, padding) -> None:
    stride, padding = (value if isinstance(value, tuple) else (value, value) for value in (stride, padding))
    x = tensors(size, kernel)[0].permute(0, 2, 3, 1)
    patches = im2col(x, kernel, stride, padding)
    other = torch.randn_like(patches)
    torch.testing.assert_close((patches * other).sum(), (x * col2im(other, x.shape, kernel, stride, padding)).sum())


@pytest.mark.parametrize("unsupported", [{"dilation": 2}, {"groups": 2}, {"padding": "same"}])
def test_what_it_cannot_do_is_refused(unsupported) -> None:
    x, weight, _ = tensors((8, 8), (3, 3))
    with pytest.raises(NotImplementedError, match="convolution with"):
        task_conv2d(x, weight, **unsupported)


def test_autocast_multiplies_in_its_precision() -> None:
    x, weight, bias = tensors((8, 8), (3, 3), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = task_conv2d(x, weight, bias, 2, 1)
    assert outputs.dtype == torch.bfloat16
    torch.testing.assert_close(outputs.float(), task_conv2d(x, weight, bias, 2, 1), rtol=0.05, atol=0.1)


def test_autocast_leaves_float64_as_torch_does() -> None:
    x, weight, bias = tensors((8, 8), (3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.conv2d(x, weight[0]).dtype == task_conv2d(x, weight, bias).dtype == torch.float64
