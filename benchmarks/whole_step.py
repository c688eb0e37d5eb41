"""The outer step as one function of torch.func, which a compiler can take as a whole."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from benchmarks.cases import Case, Gradients, Step

Compute = Callable[..., Gradients]


def compiled_step(case: Case, n_tasks: int, device: torch.device) -> Step:
    """The step compiled as a whole: through a compiled part of it no second derivative goes."""
    return functional_step(case, n_tasks, device, torch.compile)


def functional_step(
    case: Case,
    n_tasks: int,
    device: torch.device,
    compiler: Callable[[Compute], Compute],
) -> Step:
    """The outer gradient by `torch.func`, after a compiler has had it."""
    network, episode = with_plain_norms(case.plain_network(device)), case.episode(n_tasks, device)
    parameters = dict(network.named_parameters())

    def loss(params: Gradients, x: Tensor, y: Tensor) -> Tensor:
        return functional.cross_entropy(functional_call(network, params, (x,)), y)

    def outer_loss(params: Gradients, *tasks: Tensor) -> Tensor:
        def task_loss(params: Gradients, support_x: Tensor, support_y: Tensor, *query: Tensor) -> Tensor:
            for _ in range(case.inner_steps):
                gradients = grad(loss)(params, support_x, support_y)
                params = {name: value - case.inner_lr * gradients[name] for name, value in params.items()}
            return loss(params, *query)

        return vmap(task_loss, in_dims=(None, 0, 0, 0, 0))(params, *tasks).mean()

    outer_gradient = compiler(grad(outer_loss))

    def compute() -> Gradients:
        values = {name: parameter.detach() for name, parameter in parameters.items()}
        gradients = outer_gradient(values, *episode.task[:2], episode.query_x, episode.query_y)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name]
        return gradients

    return Step(compute)


def with_plain_norms(network: nn.Module) -> nn.Module:
    """The network with batch normalisations of plain operations: torch differentiates its own wrongly under vmap."""
    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.BatchNorm2d):
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, PlainBatchNorm(layer))
    return network


class PlainBatchNorm(nn.Module):
    """Normalises by the batch's own statistics, with the weights of a `nn.BatchNorm2d`."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = layer.weight, layer.bias, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return plain_batch_norm(x, None, None, self.weight[None], self.bias[None], True, eps=self.eps)


def plain_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`task_batch_norm` of plain operations, so that both derivatives are autograd's own.

    Args:
        x: (T * B, C, H, W), task by task.
        running_mean: Only None.
        running_var: Only None.
        weight: (T, C), gamma.
        bias: (T, C), beta.
        training: Only True.
        momentum: Not used.
        eps: Added to the variance.

    Returns:
        As x.
    """
    assert training
    assert running_mean is running_var is None
    last = x.permute(0, 2, 3, 1)  # (T * B, H, W, C)
    rows = last.reshape(len(weight), -1, x.shape[1])  # (T, N, C), N = B * H * W
    centred = rows - rows.mean(1, keepdim=True)
    scale = weight.unsqueeze(1) * (centred.square().mean(1, keepdim=True) + eps).rsqrt()  # (T, 1, C)
    return torch.addcmul(bias.unsqueeze(1), centred, scale).view(last.shape).permute(0, 3, 1, 2)
