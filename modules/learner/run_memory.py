"""The outputs of networks whose weights no task has changed, kept while a task is scored after several inner steps."""

from collections.abc import Callable

from torch import Tensor

from modules.functional.tasks.networks import Variables


class RunMemory:
    """Keeps what networks with the weights of all tasks have put out for an input.

    Args:
        params: The meta-parameters and buffers; only outputs of these very tensors are kept.
        inputs: Those that come again; only outputs for these very tensors are kept.
    """

    def __init__(self, params: Variables, inputs: list[Tensor]) -> None:
        self._params, self._inputs = params, inputs  # kept, so that no other tensor has the number of one of them
        self._numbers = {id(value) for value in (*params.values(), *inputs)}
        self._kept: dict[tuple[str, int], Tensor] = {}  # (network, number of the input) -> outputs

    def outputs(self, name: str, variables: Variables, x: Tensor, compute: Callable[[], Tensor]) -> Tensor:
        """Returns a network's outputs, computed once for each input.

        Args:
            name: The network's.
            variables: Its weights and buffers.
            x: The input; the same only where it is the same tensor.
            compute: Computes the outputs.
        """
        if not {id(value) for value in (*variables.values(), x)} <= self._numbers:
            return compute()
        if (name, id(x)) not in self._kept:
            self._kept[name, id(x)] = compute()
        return self._kept[name, id(x)]
