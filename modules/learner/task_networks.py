"""Networks applied to T tasks at once: what a method is written with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from torch import Tensor, nn

from datamodules.episode import Episode
from modules.backbones.backbone import Backbone
from modules.backbones.frozen_features import embed_images, passes_features
from modules.backbones.trained_images import TrainedOn
from modules.functional.tasks.networks import (
    Strategy,
    Variables,
    forward_tasks,
    normalises_by_batch,
    under_prefix,
)
from modules.functional.tasks.shared_weights import forward_shared
from modules.learner.outer_loop import OuterLoop
from modules.learner.passes import Passes
from modules.learner.run_memory import RunMemory
from modules.learner.trainer_check import check_episode


class TaskNetworks(TrainedOn):
    """A module whose networks are applied to T tasks, with weights that all share or that each has of its own.

    Args:
        network: The main network; its variables are named "network.".
        outer: Says how tasks are computed.
    """

    def __init__(self, network: nn.Module, outer: OuterLoop) -> None:
        super().__init__()
        self.network = network
        self.begin_untrained(network)
        self.outer = outer
        self._chosen_strategy: str = "loop"  # by task_strategy "auto", at the first episode or in the checkpoint
        self._shares_weights = False
        self._passes: Passes | None = None  # where what is computed is being recorded
        self._memory: RunMemory | None = None  # where outputs of shared weights are kept

    def run(self, variables: Variables, name: str, x: Tensor) -> Tensor:
        """Applies one of the learner's networks to T tasks: x (T, B, ...) -> (T, B, ...).

        Args:
            variables: By their names in `params`, each shared by all tasks, (*shape), or of each task, (T, *shape).
            name: The network, an attribute of the learner, or a layer of one: "network", "network.head".
            x: What the network takes of each task.
        """
        network, own = self.get_submodule(name), under_prefix(variables, f"{name}.")
        if self._passes is not None:
            self._passes.add(network, x)
        if self._shares_weights:
            return forward_shared(network, own, x)
        strategy = cast(Strategy, "loop" if self.task_strategy == "learn2learn" else self.task_strategy)
        if self._memory is None:
            return forward_tasks(network, own, x, strategy)
        return self._memory.outputs(name, own, x, lambda: forward_tasks(network, own, x, strategy))

    @contextmanager
    def remembering(self, params: Variables, episode: Episode) -> Iterator[None]:
        """Inside it, a network with the weights of `params` computes its outputs for an episode's inputs once."""
        self._memory = RunMemory(params, [episode.task.x, episode.query_x])
        try:
            yield
        finally:
            self._memory = None

    def passes_of(self, compute: Callable[[], object]) -> Passes:
        """Computes something, task by task, and tells what it passes through the learner's networks."""
        self._passes = passes = Passes()
        try:
            with passes.counting(self):
                compute()
        finally:
            self._passes = None
        return passes

    @contextmanager
    def sharing_weights(self) -> Iterator[None]:
        """Inside it all tasks have the same adapted weights, and are computed as one batch that can be traced."""
        self._shares_weights = True
        try:
            yield
        finally:
            self._shares_weights = False

    @property
    def task_strategy(self) -> str:
        """The strategy asked for, or what "auto" chose."""
        if self._passes is not None:
            return "loop"
        return self._chosen_strategy if self.outer.task_strategy == "auto" else self.outer.task_strategy

    @property
    def sees_other_queries(self) -> bool:
        """Tells whether a query's output depends on the queries in its batch, through batch statistics."""
        return normalises_by_batch(self)

    def trainable(self, variables: Variables) -> Variables:
        """Returns those of the variables that are parameters and not frozen."""
        return {name: variables[name] for name, parameter in self.named_parameters() if parameter.requires_grad}

    def variables(self, n_tasks: int) -> Variables:
        """The meta-parameters, (*shape), and the buffers that training updates, (T, *shape), for T tasks.

        In training each task has a copy of a buffer, to update; in evaluation all have views of the one that there is.
        """
        variables = dict(self.named_parameters()) | dict(self.named_buffers())
        for name, value in self.updated_buffers().items():
            of_tasks = value.expand(n_tasks, *value.shape)
            variables[name] = of_tasks.clone() if self.training else of_tasks
        return variables

    def updated_buffers(self) -> Variables:
        """The buffers that training may update: those outside a frozen backbone, whose ones all tasks share."""
        buffers, backbone = dict(self.named_buffers()), self.backbone
        if backbone is not None and backbone.frozen:
            prefix = "network." if backbone is self.network else "network.backbone."
            buffers = {name: buffer for name, buffer in buffers.items() if not name.startswith(prefix)}
        return buffers

    @property
    def backbone(self) -> Backbone | None:
        """The network without a method's own output layer."""
        backbone = self.network if isinstance(self.network, Backbone) else getattr(self.network, "backbone", None)
        return backbone if isinstance(backbone, Backbone) else None

    def embedded(self, episode: Episode) -> Episode:
        """The episode with a frozen backbone's features, computed once for all steps, in place of its images."""
        check_episode(episode)
        backbone = self.backbone
        if backbone is None or not passes_features(backbone) or episode.query_x.dim() == 3:
            return episode

        def embed(x: Tensor) -> Tensor:
            if x.shape[1] == 0:
                return x.new_empty(*x.shape[:2], backbone.feature_dim)
            return embed_images(backbone, x.flatten(0, 1)).unflatten(0, x.shape[:2])  # (T, B, D)

        return episode.map_inputs(embed)
