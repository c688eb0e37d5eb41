"""A computation on the GPU, recorded once and replayed: hundreds of kernel launches become one."""

from collections.abc import Callable

import torch
from torch import Tensor

from datamodules.episode import Episode
from modules.learner.outer_gradient import OuterGradient

WARM_UP = 3  # runs before recording, in which libraries allocate what they keep


class GraphedGradient:
    """Computes outer gradients by replaying a CUDA graph of the first batch's computation.

    The replay reads and writes the memory of the recording: weights are read where they lie, so they must be updated in
    place; episodes are copied into the recording's. Another shape of episode is recorded anew, and so are weights that
    lie elsewhere, as after a model's move to the CPU and back, or that have been frozen.

    Args:
        compute: From an Episode on the GPU; must launch the same kernels whatever the values are, and never wait for
            the GPU.
        variables: What `compute` reads beside it, always in the same order.
    """

    def __init__(
        self, compute: Callable[[Episode], OuterGradient], variables: Callable[[], list[Tensor]] = list
    ) -> None:
        self.compute, self.variables = compute, variables
        self._key: object = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._episode: Episode | None = None
        self._gradient: OuterGradient | None = None

    def __call__(self, episode: Episode) -> OuterGradient:
        """The outer gradient of an episode; the next call leaves it as it is."""
        shapes = [(field.shape, field.dtype, field.device) for field in episode.tensors()]
        key = (shapes, [(value.data_ptr(), value.requires_grad) for value in self.variables()])
        if key != self._key:
            self.forget()
            self._record(episode)
            self._key = key
        assert self._graph is not None
        assert self._episode is not None
        assert self._gradient is not None
        for recorded, given in zip(self._episode.tensors(), episode.tensors(), strict=True):
            recorded.copy_(given)
        self._graph.replay()
        return OuterGradient(*({name: value.clone() for name, value in part.items()} for part in self._gradient))

    def forget(self) -> None:
        """Gives the recording's memory back; the next call records anew."""
        self._key = self._graph = self._gradient = self._episode = None

    def _record(self, episode: Episode) -> None:
        self._episode = episode.map(torch.clone)
        # Weights cast once and cached outside the recording would stay what they were when it was made.
        caching = torch.is_autocast_cache_enabled()
        torch.clear_autocast_cache()
        torch.set_autocast_cache_enabled(False)
        try:
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self.compute(self._episode)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    self._gradient = self.compute(self._episode)
            except torch.OutOfMemoryError as error:
                raise MemoryError(
                    "the memory holds the computation but not its recording: set outer.task_chunk to half the tasks, "
                    "or outer.cuda_graph to false"
                ) from error
            self._graph = graph
        finally:
            torch.set_autocast_cache_enabled(caching)
