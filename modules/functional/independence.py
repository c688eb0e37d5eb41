"""Whether a network treats each example of a batch for itself, as only then a batch may be cut and joined at will."""

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

TOLERANCE = 1e-4  # round-off of float32, relative to the largest output

_Key = tuple[torch.Size, tuple[bool, ...]]
_ANSWERS: WeakKeyDictionary[nn.Module, dict[_Key, bool]] = WeakKeyDictionary()


@contextmanager
def nothing_dropped(network: nn.Module) -> Iterator[None]:
    """Switches dropout off, which draws for each example and so hides what a network computes."""
    dropping = [layer for layer in network.modules() if isinstance(layer, _DropoutNd) and layer.training]
    for layer in dropping:
        layer.training = False
    try:
        yield
    finally:
        for layer in dropping:
            layer.training = True


def treats_each_alone(network: nn.Module, input_shape: torch.Size) -> bool:
    """Whether an example's output does not depend on the others in its batch, found out once on two random examples.

    A normalisation by batch statistics makes it depend on them, as does anything of the kind of `x - x.mean(0)`.

    Args:
        network: On any device, in training or evaluation mode, each of which has an answer of its own; stays as it is.
        input_shape: Of one example.
    """
    answers = _ANSWERS.setdefault(network, {})
    key = (input_shape, tuple(layer.training for layer in network.modules()))
    if key not in answers:
        answers[key] = _probe(network, input_shape)
    return answers[key]


def _probe(network: nn.Module, input_shape: torch.Size) -> bool:
    values = [*network.named_parameters(), *network.named_buffers()]
    like = next((value for _, value in values if value.is_floating_point()), torch.empty(0))
    x = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)).to(like)
    x[1] *= 0.5  # two examples of one distribution can have nearly the same mean
    devices = [x.device] if x.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.no_grad(),
        torch.autocast(x.device.type, enabled=False),
        nothing_dropped(network),
    ):
        try:
            together = _outputs(network, x)
            alone = torch.cat([_outputs(network, example) for example in x.split(1)])
        except Exception:  # e.g. batch statistics of a single value
            return False
    atol = TOLERANCE * float(alone.abs().max())
    return together.shape == alone.shape and torch.allclose(together, alone, rtol=TOLERANCE, atol=atol)


def _outputs(network: nn.Module, x: Tensor) -> Tensor:
    """With copies of the buffers, which a training forward pass would update."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    outputs: Tensor = functional_call(network, buffers, (x,))
    return outputs
