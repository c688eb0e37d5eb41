"""Convolution of T tasks at once, each with weights of its own, as one batched matrix product."""

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx


def task_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolves the examples of each task with that task's kernels; the arguments of `torch.conv2d`.

    vmap makes a grouped convolution of this, whose second derivative goes over the groups one by one. Here patches are
    laid out as rows of a matrix (`im2col`, linear, with the adjoint `col2im`), and the rest is `torch.bmm`, which has
    derivatives of every order by itself.

    Args:
        x: (T * B, C, H, W), task by task; channels_last is what it likes best and returns.
        weight: (T, O, C, kh, kw).
        bias: (T, O) or None.
        stride: Pixels between patches, for both axes or (vertical, horizontal).
        padding: Zeros around the image, likewise.
        dilation: Only 1.
        groups: Only 1.

    Returns:
        (T * B, O, OH, OW).

    Raises:
        NotImplementedError: For dilated and grouped convolutions.
    """
    if _pair(dilation) != (1, 1) or groups != 1 or isinstance(padding, str):
        raise NotImplementedError(f"convolution with dilation {dilation}, groups {groups}, padding {padding!r}")
    n_tasks, n_filters, _, *kernel = weight.shape
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:  # before patches multiply the work of it
        x = x.to(torch.get_autocast_dtype(x.device.type))
    patches = _Im2Col.apply(x.permute(0, 2, 3, 1), (*kernel,), _pair(stride), _pair(padding))
    n_images, height, width = patches.shape[:3]  # (T * B, OH, OW, kh * kw * C)
    rows = patches.reshape(n_tasks, n_images // n_tasks * height * width, -1)  # (T, B * OH * OW, kh * kw * C)
    matrix = weight.permute(0, 3, 4, 2, 1).reshape(n_tasks, -1, n_filters)  # (T, kh * kw * C, O)
    outputs = torch.bmm(rows, matrix) if bias is None else torch.baddbmm(bias.unsqueeze(1), rows, matrix)
    return outputs.view(n_images, height, width, n_filters).permute(0, 3, 1, 2)  # (T * B, O, OH, OW)


class _Im2Col(Function):
    """Images (N, H, W, C) to patches (N, OH, OW, kh * kw * C)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, *layout: tuple[int, int]) -> Tensor:
        ctx.shape, ctx.layout = x.shape, layout  # type: ignore[attr-defined]
        return im2col(x, *layout)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Col2Im.apply(gradient, ctx.shape, *ctx.layout), None, None, None  # type: ignore[attr-defined]


class _Col2Im(Function):
    """The adjoint of `_Im2Col`."""

    @staticmethod
    def forward(ctx: FunctionCtx, patches: Tensor, shape: torch.Size, *layout: tuple[int, int]) -> Tensor:
        ctx.layout = layout  # type: ignore[attr-defined]
        return col2im(patches, shape, *layout)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Im2Col.apply(gradient, *ctx.layout), None, None, None, None  # type: ignore[attr-defined]


def im2col(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Cuts images into the patches that a convolution sees.

    Args:
        x: (N, H, W, C), of any strides.
        kernel: (kh, kw).
        stride: Pixels between patches.
        padding: Zeros around the image.

    Returns:
        (N, OH, OW, kh * kw * C), contiguous.
    """
    (n, height, width, channels), (kh, kw), (down, right), (top, left) = x.shape, kernel, stride, padding
    padded = x.new_zeros(n, height + 2 * top, width + 2 * left, channels)
    padded[:, top : top + height, left : left + width] = x
    rows, columns = (height + 2 * top - kh) // down + 1, (width + 2 * left - kw) // right + 1
    image, line, pixel, _ = padded.stride()
    # A patch's line of kw pixels is kw * C numbers side by side.
    strides = (image, down * line, right * pixel, line, 1)
    patches = padded.as_strided((n, rows, columns, kh, kw * channels), strides).contiguous()
    return patches.view(n, rows, columns, kh * kw * channels)


def col2im(
    patches: Tensor, shape: torch.Size, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Adds patches up where they lie in the image: the adjoint of `im2col`.

    Args:
        patches: (N, OH, OW, kh * kw * C).
        shape: (N, H, W, C).
        kernel: (kh, kw).
        stride: Pixels between patches.
        padding: Zeros around the image.

    Returns:
        (N, H, W, C).
    """
    (n, height, width, channels), (_, kw), (down, right), (top, left) = shape, kernel, stride, padding
    rows, columns = patches.shape[1:3]
    padded = patches.new_zeros(n, height + 2 * top, width + 2 * left, channels)
    image, line, pixel, _ = padded.stride()
    size, strides = (n, rows, columns, channels), (image, down * line, right * pixel, 1)
    for place, values in enumerate(patches.split(channels, dim=-1)):  # one pixel of every patch: (N, OH, OW, C)
        offset = place // kw * line + place % kw * pixel
        padded.as_strided(size, strides, offset).add_(values)
    return padded[:, top : top + height, left : left + width]


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
