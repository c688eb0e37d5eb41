"""One network applied to T tasks at once, with weights that the tasks share or that each task has of its own."""

from collections.abc import Mapping, Set
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm

from modules.functional.tasks.independence import is_per_example
from modules.functional.tasks.per_task import PerTask

Variables = dict[str, Tensor]  # a network's parameters and buffers by name
Strategy = Literal["batched", "vmap", "loop"]
NORMS = (_BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def forward_tasks(network: nn.Module, variables: Mapping[str, Tensor], x: Tensor, strategy: Strategy) -> Tensor:
    """Applies a network to each task's examples with that task's variables. Batch statistics are per task.

    Args:
        network: Gives the structure and the training flag; its own parameters and buffers are not used.
        variables: Every parameter and buffer of `network` by name, each either (*shape), shared by all tasks, or
            (T, *shape). Running statistics that a training forward pass updates must be (T, *shape): each task's copy
            is updated in place. A buffer that was expanded to (T, *shape) is one copy, and counts as shared.
        x: (T, B, *input_shape).
        strategy: How tasks with different weights are computed: "batched" all at once by hand-written forms of the
            usual layers, "vmap" all at once by torch.func, "loop" one by one. The results agree up to round-off. Where
            all weights are shared and no example sees another, the tasks are one ordinary batch.

    Returns:
        (T, B, *output_shape).

    Raises:
        NotImplementedError: If "batched" meets an operation that has no such form.
    """
    layout = _layout(network, variables.keys())
    of_tasks = {name for name, value in variables.items() if value.dim() > layout.dims[name]}
    one_copy = {name for name in of_tasks & layout.buffers if _is_one_copy(variables[name], network.training)}
    variables = {name: value[0] if name in one_copy else value for name, value in variables.items()}
    per_task = of_tasks - one_copy
    if not per_task and is_per_example(network, x.shape[2:]):
        return call_with(network, variables, x.flatten(0, 1)).unflatten(0, x.shape[:2])  # (T, B, *output_shape)
    if strategy == "batched":
        return _forward_batched(network, variables, per_task, x)
    if strategy == "vmap":
        axes = {name: 0 if name in per_task else None for name in variables}

        def forward(task_variables: Variables, task_x: Tensor) -> Tensor:
            return call_with(network, task_variables, task_x)

        return vmap(forward, in_dims=(axes, 0), randomness="different")(dict(variables), x)
    if len(x) == 1:  # views, where taking tasks apart and together would copy
        only = {name: value.squeeze(0) if name in per_task else value for name, value in variables.items()}
        return call_with(network, only, x.squeeze(0)).unsqueeze(0)
    tasks = {name: value.unbind() for name, value in variables.items() if name in per_task}
    outputs = []
    for t, task_x in enumerate(x):
        task_variables = dict(variables) | {name: values[t] for name, values in tasks.items()}
        outputs.append(call_with(network, task_variables, task_x))
    return torch.stack(outputs)  # (T, B, *output_shape)


def _forward_batched(network: nn.Module, variables: Mapping[str, Tensor], per_task: set[str], x: Tensor) -> Tensor:
    """The T * B examples as one batch, through a network whose layers meet weights (T, *shape)."""
    n_tasks, by_batch, second_names = len(x), _layout(network).by_batch, _layout(network).second_names
    everywhere = dict(variables) | {name: variables[known] for name, known in second_names.items()}
    own = per_task | {name for name, known in second_names.items() if known in per_task}
    # A layer's weight and bias are both of each task or both shared; batch statistics always are of each task.
    owners = {name.rpartition(".")[0] for name in own}
    given: Variables = {}
    for name, value in everywhere.items():
        belongs = name in by_batch or (name.rpartition(".")[0] in owners and value.is_floating_point())
        if belongs and name not in own:
            given[name] = value.expand(n_tasks, *value.shape).as_subclass(PerTask)
        else:
            given[name] = value.as_subclass(PerTask) if name in own and value.is_floating_point() else value
    return call_with(network, given, x.flatten(0, 1)).unflatten(0, (n_tasks, -1))  # (T, B, *output_shape)


def call_with(network: nn.Module, variables: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The network's outputs with other variables than its own, given under their first names at least.

    They are passed on under all their names: `functional_call` would look for second ones at each call, and leaves a
    network changed of which one layer has two.
    """
    others = {name: variables[known] for name, known in _layout(network).second_names.items()}
    outputs: Tensor = functional_call(network, others | dict(variables), (x,), tie_weights=False)
    return outputs


class _Layout(NamedTuple):
    """What a network's variables are, by name."""

    dims: dict[str, int]  # of each in the network itself, shared by all tasks
    buffers: frozenset[str]
    by_batch: set[str]  # those of batch normalisations, except counts
    second_names: dict[str, str]  # of those that layers share -> the name that they have here


_LAYOUTS: WeakKeyDictionary[nn.Module, _Layout] = WeakKeyDictionary()


def _layout(network: nn.Module, names: Set[str] = frozenset()) -> _Layout:
    """Read once for each network: going through its layers at every call took a twelfth of a one-task step."""
    layout = _LAYOUTS.get(network)
    if layout is None or not names <= layout.dims.keys():
        own = dict(network.named_parameters()) | dict(network.named_buffers())
        norms = {name for name, layer in network.named_modules() if isinstance(layer, _BatchNorm)}
        by_batch = {name for name, v in own.items() if name.rpartition(".")[0] in norms and v.is_floating_point()}
        dims = {name: value.dim() for name, value in own.items()}
        buffers = frozenset(name for name, _ in network.named_buffers())
        layout = _LAYOUTS[network] = _Layout(dims, buffers, by_batch, _second_names(network))
    return layout


def _is_one_copy(buffer: Tensor, training: bool) -> bool:
    """Tells whether a buffer (T, *shape) was expanded from one, (*shape), which no task updates.

    Of a single task it cannot be told; in training it may be that task's own, and vmap updates no other in place.
    """
    return buffer.stride(0) == 0 or (len(buffer) == 1 and not training)


def _second_names(network: nn.Module) -> dict[str, str]:
    """Tells where another layer has a variable too: its name there -> its first one."""
    first: dict[Tensor, str] = {}
    second: dict[str, str] = {}
    for prefix, layer in network.named_modules():
        for leaf, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            name = f"{prefix}.{leaf}" if prefix else leaf
            if first.setdefault(value, name) != name:
                second[name] = first[value]
    return second


def under_prefix(variables: Mapping[str, Tensor], prefix: str) -> Variables:
    """The variables whose names begin with `prefix`, without it: "network.head.bias" becomes "head.bias"."""
    return {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)}


def for_each_task(variables: Mapping[str, Tensor], n_tasks: int) -> Variables:
    """Gives each of T tasks its own view of shared variables: (*shape) -> (T, *shape), connected for gradients."""
    return {name: value.unsqueeze(0).expand(n_tasks, *value.shape) for name, value in variables.items()}


def names_of_norms(network: nn.Module, prefix: str = "") -> frozenset[str]:
    """The names of the scales and shifts of a network's normalisation layers, with `prefix` before them."""
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, NORMS)]
    return frozenset(f"{prefix}{name}.{leaf}" for name, layer in layers for leaf, _ in layer.named_parameters())


def normalises_by_batch(network: nn.Module) -> bool:
    """Tells whether a layer normalises by its batch's statistics in evaluation too, so that examples see each other."""
    norms = (layer for layer in network.modules() if isinstance(layer, _BatchNorm))
    return any(norm.running_mean is None for norm in norms)


def key_of(name: str) -> str:
    """A weight's name as a key of a ParameterDict, which may hold no dot."""
    return name.replace(".", "/")
