"""The features by which images are compared with those that a learner knows."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modules.functional.likeness import fit_whitening, map_statistics
from modules.functional.tasks.networks import NORMS
from modules.learner.method import Method

MOST_LAYERS = 4  # that are looked at beside the embedding
AT_ONCE = 64  # images
EMBEDDING = "embedding"  # a key of a state beside the layers' names

Maps = dict[str, Tensor]  # layer -> what is known of some images' maps, (N, D)
State = dict[str, dict[str, Tensor]]  # what a checkpoint keeps: layer -> "mean" and "transform"


class LikenessFeatures:
    """White features of a task's images, by the network that a learner's tasks begin with.

    They are the means and deviations of the feature maps after some normalisations, early and late, and the embedding:
    what a network was never shown differs most in its early maps. The weights are those before any adaptation, so that
    images of different tasks are compared in one space, also for methods that adapt the features. Where batches
    normalise, those of the support set do, so that no other query has a part in a query's features.

    Args:
        learner: A trained learner; its network is copied.
        state: What `state` gave earlier; None: `learn` comes first.

    Reference:
        Lee, Lee, Lee and Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
        Attacks", NeurIPS 2018: Mahalanobis distances of the features of several layers. Here the mean and covariance
        are those of all classes together, as new classes have none of their own.
    """

    def __init__(self, learner: Method, state: State | None = None) -> None:
        known = learner.backbone if learner.backbone is not None else learner.network
        self._network = deepcopy(known).float().eval().requires_grad_(False)
        self._layers = _looked_at(self._network)
        self._white: State = {} if state is None else state
        norms = [layer for layer in self._network.modules() if isinstance(layer, _BatchNorm)]
        # These are given the support's statistics.
        self._by_batch = [norm for norm in norms if norm.running_mean is None]
        for norm in self._by_batch:
            norm.register_buffer("running_mean", torch.zeros(norm.num_features, device=learner.device))
            norm.register_buffer("running_var", torch.ones(norm.num_features, device=learner.device))

    def maps(self, support: Tensor, queries: Tensor) -> tuple[Maps, Maps]:
        """Returns statistics of the maps of a task's images (S, C, H, W) and (Q, C, H, W) in [0, 1], not yet white."""
        self._normalise_by(support)
        return self._maps(support), self._maps(queries)

    def learn(self, known: Iterable[Maps]) -> None:
        """Learns from the maps of known images what is expected of an image."""
        found: dict[str, list[Tensor]] = {}
        for maps in known:
            for name, statistics in maps.items():
                found.setdefault(name, []).append(statistics)
        white = {name: fit_whitening(torch.cat(parts)) for name, parts in found.items()}
        self._white = {n: {"mean": mean, "transform": transform} for n, (mean, transform) in white.items()}

    def __call__(self, support: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """White features (S, K) and (Q, K) of a task's images (S, C, H, W) and (Q, C, H, W) in [0, 1]."""
        known, asked = self.maps(support, queries)
        return self.whitened(known), self.whitened(asked)

    def whitened(self, maps: Maps) -> Tensor:
        """Layer -> what is known of its maps (N, D), to white features (N, K) of all layers."""
        white = {name: {key: value.to(maps[name]) for key, value in w.items()} for name, w in self._white.items()}
        return torch.cat([(maps[name] - w["mean"]) @ w["transform"] for name, w in white.items()], dim=1)

    def state(self) -> State:
        """Returns all that another object of the same network needs to give the same features."""
        return {name: {key: value.cpu() for key, value in white.items()} for name, white in self._white.items()}

    # ---- the network's layers

    @torch.no_grad()
    def _normalise_by(self, support: Tensor) -> None:
        """Gives layers that normalise by their batch the statistics of a support set, in the order of the layers."""
        for norm in self._by_batch:
            norm.reset_running_stats()
            norm.momentum, norm.num_batches_tracked = None, torch.tensor(0)  # the plain mean over parts
            norm.track_running_stats = True
            norm.train()
        for part in support.split(AT_ONCE) if self._by_batch else ():
            if len(part) > 1 or len(support) == 1:
                self._embed(part)
        for norm in self._by_batch:
            norm.eval()

    def _embed(self, images: Tensor) -> Tensor:
        like = next(self._network.parameters(), images)
        with torch.autocast(like.device.type, enabled=False):
            features: Tensor = self._network(images.to(like.device).float())
        return features

    @torch.no_grad()
    def _maps(self, images: Tensor) -> Maps:
        """Layer -> what is known of its maps, (N, D)."""
        found: dict[str, list[Tensor]] = {name: [] for name in [*self._layers, EMBEDDING]}
        for part in images.split(AT_ONCE):
            with self._watched() as newest:
                newest[EMBEDDING] = map_statistics(self._embed(part))
            for name, statistics in newest.items():
                found[name].append(statistics)
        return {name: torch.cat(parts) for name, parts in found.items()}

    @contextmanager
    def _watched(self) -> Iterator[dict[str, Tensor]]:
        """Inside it every pass leaves what is known of its maps; of a layer that is passed twice, the last time."""
        newest: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda layer, inputs, maps: newest.update({name: map_statistics(maps)})

        hooks = [self._network.get_submodule(name).register_forward_hook(keep(name)) for name in self._layers]
        try:
            yield newest
        finally:
            for hook in hooks:
                hook.remove()


def _looked_at(network: nn.Module) -> list[str]:
    """Some normalisations from the first to the last; where there are none, layers with weights."""
    names = [name for name, layer in network.named_modules() if name and isinstance(layer, NORMS)]
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    names = names or [name for name, layer in network.named_modules() if name and isinstance(layer, kinds)]
    if len(names) <= MOST_LAYERS:
        return names
    return [names[round(i * (len(names) - 1) / (MOST_LAYERS - 1))] for i in range(MOST_LAYERS)]
