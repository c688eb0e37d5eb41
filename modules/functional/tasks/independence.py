"""Whether a network treats each example of a batch for itself, as only then a batch may be cut and joined at will."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from modules.functional.tasks.probe import Variables, agree

TOLERANCE = 1e-4  # round-off of float32, relative to the largest output

_Key = tuple[torch.Size, tuple[bool, ...]]
_ANSWERS: WeakKeyDictionary[nn.Module, dict[_Key, bool]] = WeakKeyDictionary()


def is_per_example(network: nn.Module, input_shape: torch.Size) -> bool:
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
    examples = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0))
    examples[1] *= 0.5  # two examples of one distribution can have nearly the same mean

    def compute(stand_in: nn.Module, variables: Variables, x: Tensor) -> tuple[Tensor, Tensor]:
        alone = torch.cat([_outputs(stand_in, variables, example) for example in x.split(1)])
        return alone, _outputs(stand_in, variables, x)

    return agree(network, examples, compute, TOLERANCE)


def _outputs(network: nn.Module, variables: Variables, x: Tensor) -> Tensor:
    """With copies of the variables, whose statistics a training forward pass updates."""
    outputs: Tensor = functional_call(network, {name: value.clone() for name, value in variables.items()}, (x,))
    return outputs
