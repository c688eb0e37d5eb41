"""Reductions over the processes of a run that hold no process up before its device needs the others."""

from typing import Literal, TypeVar

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor
from torch.distributed import ReduceOp

T = TypeVar("T")


def reduced(values: Tensor, strategy: Strategy, by: Literal["sum", "mean", "max", "min"]) -> Tensor:
    """Reduces a tensor over all processes.

    Lightning's own `Strategy.reduce` puts a barrier before each reduction: on GPUs the host waits there until all that
    was queued has been computed, and queues the next step only then. A reduction alone is queued like any operation.

    Args:
        values: (...), on the strategy's device, of the same shape in every process; changed in place.
        strategy: The Trainer's.
        by: What is made of the processes' values.

    Returns:
        (...), the same in every process.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        answer = strategy.reduce(values, reduce_op=by)
        assert isinstance(answer, Tensor)
        return answer
    averages = torch.distributed.get_backend() != "gloo"  # which only sums
    mean = ReduceOp.AVG if averages else ReduceOp.SUM
    op = {"sum": ReduceOp.SUM, "max": ReduceOp.MAX, "min": ReduceOp.MIN, "mean": mean}[by]
    torch.distributed.all_reduce(values, op=op)
    return values.div_(torch.distributed.get_world_size()) if by == "mean" and not averages else values


def gathered(value: T) -> list[T]:
    """Gives every process what each has, in the order of the ranks; of one process alone its own."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    values: list[T] = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
