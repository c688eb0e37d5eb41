"""The features by which images are compared with those that a learner knows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from modules.functional.likeness import fit_whitening, map_statistics
from modules.functional.networks import NORMS

if TYPE_CHECKING:
    from modules.base import Learner

MOST_LAYERS = 4  # that are looked at beside the embedding
AT_ONCE = 64  # images
EMBEDDING, STATISTICS = "embedding", "statistics"  # keys of a state beside the layers' names

State = dict[str, dict[str, Tensor]]  # what a checkpoint keeps: layer -> mean and transform, statistics by name


class LikenessFeatures:
    """White features of single images, by the network that a learner's tasks begin with.

    They are the means and deviations of the feature maps after some normalisations, early and late, and the embedding:
    what a network was never shown differs most in its early maps. The weights are those before any adaptation, so that
    images of different tasks are compared in one space, also for methods that adapt the features. Where batches
    normalise, the statistics of the known images do, so that no other image has a part in an image's features.

    Args:
        learner: A trained learner; its network is copied.
        state: What `state` gave earlier; None: `learn` comes first.

    Reference:
        Lee, Lee, Lee and Shin, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
        Attacks", NeurIPS 2018: Mahalanobis distances of the features of several layers. Here the mean and covariance
        are those of all classes together, as new classes have none of their own.
    """

    def __init__(self, learner: "Learner", state: State | None = None) -> None:
        known = learner.backbone if learner.backbone is not None else learner.network
        self._network = deepcopy(known).float().eval().requires_grad_(False)
        self._layers = _looked_at(self._network)
        self._white: State = {}
        norms = {n: layer for n, layer in self._network.named_modules() if isinstance(layer, _BatchNorm)}
        # The normalisations without statistics of their own, which are given some.
        self._by_batch = {name: norm for name, norm in norms.items() if norm.running_mean is None}
        for norm in self._by_batch.values():
            norm.register_buffer("running_mean", torch.zeros(norm.num_features, device=learner.device))
            norm.register_buffer("running_var", torch.ones(norm.num_features, device=learner.device))
        if state is not None:
            self._white = {name: white for name, white in state.items() if name != STATISTICS}
            for name, value in state[STATISTICS].items():
                self._network.get_buffer(name).copy_(value)

    def learn(self, images: Tensor) -> None:
        """Learns from known images (N, C, H, W) in [0, 1] what is expected of an image."""
        self._learn_statistics(images)
        layers = self._maps(images)
        self._white = {n: dict(zip(("mean", "transform"), fit_whitening(f), strict=True)) for n, f in layers.items()}

    def __call__(self, images: Tensor) -> Tensor:
        """White features (N, K) of images (N, C, H, W) in [0, 1]."""
        layers = self._maps(images)
        white = [(layers[n] - w["mean"].to(layers[n])) @ w["transform"].to(layers[n]) for n, w in self._white.items()]
        return torch.cat(white, dim=1)

    def state(self) -> State:
        """What another object of the same network needs to give the same features."""
        names = [f"{name}.{leaf}" for name in self._by_batch for leaf in ("running_mean", "running_var")]
        statistics = {name.lstrip("."): self._network.get_buffer(name.lstrip(".")).cpu() for name in names}
        return {name: {k: v.cpu() for k, v in w.items()} for name, w in self._white.items()} | {STATISTICS: statistics}

    # ---- the network's layers

    @torch.no_grad()
    def _learn_statistics(self, images: Tensor) -> None:
        """The means over batches of known images, in the order of the layers, for those that have none."""
        if not self._by_batch:
            return
        for norm in self._by_batch.values():
            norm.momentum, norm.num_batches_tracked = None, torch.tensor(0)  # their plain mean
            norm.track_running_stats = True
            norm.train()
        for part in images.split(AT_ONCE):
            if len(part) > 1 or len(images) == 1:
                self._embed(part)
        for norm in self._by_batch.values():
            norm.eval()

    def _embed(self, images: Tensor) -> Tensor:
        like = next(self._network.parameters(), images)
        with torch.autocast(like.device.type, enabled=False):
            features: Tensor = self._network(images.to(like.device).float())
        return features

    @torch.no_grad()
    def _maps(self, images: Tensor) -> dict[str, Tensor]:
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
