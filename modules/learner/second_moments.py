"""What Reptile's inner Adam carries from task to task."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modules.functional.inner_loop import Update, adam
from modules.functional.tasks.networks import Variables
from modules.methods.meta_sgd import key_of

HALVES = (torch.float16, torch.bfloat16)


class SecondMoments(nn.Module):
    """The second moments of an inner Adam, and the number of steps that they come from; buffers that training updates.

    They stay float32 where a network is made half: 0.999 times a bfloat16 number is the number itself.

    Args:
        parameters: Those that Adam moves, by name.
    """

    steps: Tensor

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for name, parameter in parameters.items():
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            self.register_buffer(key_of(name), torch.zeros_like(parameter, dtype=dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def moved(value: Tensor) -> Tensor:
            changed = fn(value)
            return value.to(changed.device) if changed.dtype in HALVES else changed

        return super()._apply(moved, recurse)


def adam_from(carried: Variables, weights: Variables, lr: float, steps: int, leaves_them: bool) -> Update:
    """Adam that begins with the carried moments.

    Args:
        carried: "steps", (T,), and a second moment for each weight, (T, *shape), by their names in SecondMoments.
        weights: What is to be moved, name -> (T, *shape).
        lr: Step size.
        steps: The number of steps that will be taken.
        leaves_them: Whether the last step leaves in `carried` what the moments have come to, as in training.

    Raises:
        ValueError: If a weight has none, as where it was frozen when the learner was made.
    """
    for name in weights:
        if key_of(name) not in carried:
            raise ValueError(
                f"{name} has no second moment to go on from: unfreeze it before the learner is made, or set "
                "carry_moments to false."
            )
    start = {name: carried[key_of(name)].expand_as(value) for name, value in weights.items()}
    taken = carried["steps"]
    rule = adam(lr, before=taken.flatten()[0])

    def update(
        step: int, loss: Tensor, params: Variables, gradients: Variables, moments: Variables
    ) -> tuple[Variables, Variables]:
        params, moments = rule(step, loss, params, gradients, moments or start)
        if step == steps - 1 and leaves_them:
            taken.add_(steps)
            for name, moment in moments.items():
                carried[key_of(name)].copy_(moment)
        return params, moments

    return update
