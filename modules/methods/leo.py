"""Latent embedding optimisation."""

import math
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from datamodules.episode import Episode, Task
from datamodules.tasks.counter import random_bits
from modules.backbones.backbone import Backbone
from modules.backbones.conv4 import Conv4
from modules.backbones.wrapped_module import as_backbone
from modules.functional.full_precision import in_full_precision
from modules.functional.normal_numbers import normal_numbers
from modules.functional.prototypes import class_means, inner_products
from modules.functional.tasks.networks import Variables
from modules.learner.learner import Learner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive

SMALLEST_DEVIATION = 1e-10
LARGEST_EXPONENT = 5.0  # a deviation of 148, beyond which a classifier is nothing but noise

SAMPLES_STREAM = 1 << 24  # keeps these draws apart from those of tasks and of other methods


class Adapted(NamedTuple):
    """What T tasks are learned as, and what their loss also depends on."""

    classifier: Tensor  # (T, N, D)
    codes: Tensor  # (T, N, L)
    first_codes: Tensor  # (T, N, L)
    divergence: Tensor  # (T,)


class LEO(Learner):
    """Learns a small space of classifiers, and finds a task's by gradient steps in it.

    Features are scaled to length 1. An encoder and a relation network turn those of the support set into a code for
    each class, a decoder turns a code into the class's row of a linear classifier. The code takes `latent_steps`
    gradient steps on the support loss, then the row itself takes `finetuning_steps`; both step sizes are learned. Any
    number of classes.

    Args:
        backbone: The features; in the paper of a network trained before and frozen. None: Conv4 with max-pooling,
            flattened, running statistics, for 28x28 greyscale, which is then trained with the rest.
        latent_size: Length of a code.
        latent_steps: Steps in the space of codes.
        latent_lr: What their learned step size begins with.
        finetuning_steps: Steps in the space of classifiers.
        finetuning_lr: What their learned step size begins with.
        dropout: Share of the features that is dropped in training.
        kl_weight: beta: how much codes are held to the standard normal distribution.
        encoder_penalty: gamma: how much the encoder is drawn to where the steps end.
        l2_penalty: lambda 1: on the weights of encoder, relation network and decoder.
        orthogonality_penalty: lambda 2: on the correlations of the decoder's rows.
        outer: The outer loop; its gradients are clipped to 0.1 in each component and in norm.

    Reference:
        Rusu et al., "Meta-Learning with Latent Embedding Optimization", ICLR 2019, Algorithm 1, equations (4) to (8),
        and the authors' code, whose inner loss is a sum over the support set. Deviations: with several shots the
        authors draw a code and a classifier for each and average their logits; here a class has one, and the inner loss
        is the mean over its shots, which gives the same steps. Deviations are bounded; features are dropped by torch's
        generators.

    Checked:
        reference: the authors' equations, one example at a time.
    """

    objectives = ("classification",)
    training_loss = "regularised_loss"
    default_backbone: ClassVar[dict[str, Any]] = {"downsample": "pool", "reduce": "flatten", "running_stats": True}

    def __init__(
        self,
        backbone: Backbone | None = None,
        latent_size: int = 64,
        latent_steps: int = 5,
        latent_lr: float = 1.0,
        finetuning_steps: int = 5,
        finetuning_lr: float = 0.001,
        dropout: float = 0.3,
        kl_weight: float = 1e-3,
        encoder_penalty: float = 1e-9,
        l2_penalty: float = 1e-8,
        orthogonality_penalty: float = 1e-3,
        outer: OuterLoop = OuterLoop(clip_value=0.1, clip_norm=0.1),
    ) -> None:
        check_positive(latent_size=latent_size, latent_steps=latent_steps, latent_lr=latent_lr)
        check_positive(finetuning_lr=finetuning_lr)
        weights = {"kl_weight": kl_weight, "encoder_penalty": encoder_penalty, "l2_penalty": l2_penalty}
        for name, value in (weights | {"orthogonality_penalty": orthogonality_penalty}).items():
            if value < 0:
                raise ValueError(f"{name} must be 0 or more, got {value}.")
        if finetuning_steps < 0 or not 0 <= dropout < 1:
            raise ValueError(
                f"finetuning_steps must be 0 or more and dropout in [0, 1), got {finetuning_steps} and {dropout}."
            )
        default = Conv4(**self.default_backbone) if backbone is None else backbone
        embedding = as_backbone(default)
        super().__init__(embedding, outer)
        self.save_hyperparameters()
        self.input_shape, self.feature_dim, self.latent_size = embedding.input_shape, embedding.feature_dim, latent_size
        self.latent_steps, self.dropout = latent_steps, dropout
        self.inner_steps = self.eval_inner_steps = latent_steps + finetuning_steps
        self.kl_weight, self.encoder_penalty = kl_weight, encoder_penalty
        self.l2_penalty, self.orthogonality_penalty = l2_penalty, orthogonality_penalty
        self.encoder = _linear(self.feature_dim, latent_size)
        self.relation = nn.Sequential(
            _linear(2 * latent_size, 2 * latent_size),
            nn.ReLU(),
            _linear(2 * latent_size, 2 * latent_size),
            nn.ReLU(),
            _linear(2 * latent_size, 2 * latent_size),
        )
        self.decoder = _linear(latent_size, 2 * self.feature_dim)
        self.latent_lr = nn.Parameter(torch.full((latent_size,), latent_lr))
        self.finetuning_lr = nn.Parameter(torch.full((self.feature_dim,), finetuning_lr))

    @property
    def learned_arguments(self) -> tuple[str, ...]:
        """The first step sizes in the space of codes and of weights."""
        return "latent_lr", "finetuning_lr"

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Adapted]:
        """The first `latent_steps` steps in the space of codes, the others in that of classifiers."""
        return self._states(params, task._replace(x=self._features(params, task.x)), steps)

    def predict(self, params: Variables, state: Adapted, query_x: Tensor) -> Tensor:
        """Logits (T, Q, n_way)."""
        return self._logits(self._features(params, query_x), state.classifier)

    def query_loss(self, params: Variables, episode: Episode) -> tuple[Tensor, Tensor]:
        """Each task's query loss and its penalties, equations (4) and (8), (T,); and the logits."""
        n_support = episode.task.x.shape[1]
        images = torch.cat([episode.task.x, episode.query_x], dim=1)  # (T, S + Q, C, H, W)
        features = self._features(params, images)  # (T, S + Q, D)
        *_, state = self._states(params, episode.task._replace(x=features[:, :n_support]), self.inner_steps)
        logits = self._logits(features[:, n_support:], state.classifier)
        losses = self.objective.loss(logits, episode.query_y).mean(1)  # (T,)
        moved = (state.codes.detach() - state.first_codes).square().mean((1, 2))  # (T,)
        weights = [value for name, value in params.items() if name.startswith(("encoder.", "relation.", "decoder."))]
        size = 0.5 * torch.stack([weight.square().sum() for weight in weights]).sum()
        penalty = self.l2_penalty * size
        penalty = penalty + self.orthogonality_penalty * orthogonality_penalty(params["decoder.weight"].T)
        return losses + self.kl_weight * state.divergence + self.encoder_penalty * moved + penalty, logits

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Tensor:
        """For each class what its code is drawn by, and its classifier after each latent step: (T, S, L + K D)."""
        if not self.training:
            return super().draw_noise(task_id, n_support, steps)
        size = self.latent_size + (self.latent_steps + 1) * self.feature_dim
        bits = random_bits(0, SAMPLES_STREAM, task_id, n_support * size)  # there are no more classes than examples
        return normal_numbers(bits).unflatten(1, (n_support, size))

    def _states(self, params: Variables, task: Task, steps: int) -> Iterator[Adapted]:
        """As `adapt`, of tasks of the support set's features (T, S, D)."""
        draws = self._split(task.noise[:, : task.n_way]) if self.training else [None] * (steps + 2)
        mean, deviation = split_gaussian(self._codes(params, task), offset=0.0)  # (T, N, L) each
        draw = torch.zeros_like(mean) if draws[0] is None else draws[0]
        codes = first = mean + deviation * draw
        divergence = divergence_at(codes, deviation, draw).mean((1, 2))  # (T,)
        classifier = self._decoded(params, codes, draws[1])  # (T, N, D)
        yield self._state(classifier, codes, first, divergence)
        for step in range(steps):
            with torch.enable_grad():
                if not self.training:
                    codes, classifier = codes.detach().requires_grad_(), classifier.detach().requires_grad_()
                    classifier = self._decoded(params, codes, None) if step < self.latent_steps else classifier
                loss = self._support_loss(task, classifier)
                if step < self.latent_steps:
                    (gradient,) = torch.autograd.grad(loss, codes, create_graph=self.training)
                    codes = codes - params["latent_lr"] * gradient
                    classifier = self._decoded(params, codes, draws[step + 2])
                else:
                    (gradient,) = torch.autograd.grad(loss, classifier, create_graph=self.training)
                    classifier = classifier - params["finetuning_lr"] * gradient
            yield self._state(classifier, codes, first, divergence)

    def _support_loss(self, task: Task, classifier: Tensor) -> Tensor:
        """The sum over tasks and classes of the mean over shots, ()."""
        loss = self.objective.loss(self._logits(task.x, classifier), task.y)  # (T, S)
        return loss.sum() * classifier.shape[1] / loss.shape[1]

    def _state(self, classifier: Tensor, codes: Tensor, first: Tensor, divergence: Tensor) -> Adapted:
        """Returns what is kept of a step: in evaluation without the graph behind it."""
        state = Adapted(classifier, codes, first, divergence)
        return state if self.training else Adapted(*(value.detach() for value in state))

    def _split(self, noise: Tensor) -> list[Tensor]:
        """(T, N, L + K D) -> (T, N, L) for the codes, then K times (T, N, D)."""
        return list(noise.split([self.latent_size] + [self.feature_dim] * (self.latent_steps + 1), dim=-1))

    def _features(self, params: Variables, images: Tensor) -> Tensor:
        """(T, B, C, H, W) -> (T, B, D), of length 1."""
        return functional.normalize(self.run(params, "network", images), dim=-1)

    def _codes(self, params: Variables, task: Task) -> Tensor:
        """Encoder and relation network: each class's code as a distribution's parameters, (T, N, 2 L)."""
        dropped = functional.dropout(task.x, self.dropout, self.training)
        pairs = all_pairs(self.run(params, "encoder", dropped))  # (T, S, S, 2 L)
        related = self.run(params, "relation", pairs.flatten(1, 2)).view_as(pairs).mean(2)  # (T, S, 2 L)
        return class_means(related, task.y, task.n_way)

    def _decoded(self, params: Variables, codes: Tensor, draw: Tensor | None) -> Tensor:
        """Classifiers (T, N, D) of codes (T, N, L); their means where nothing is drawn."""
        offset = math.sqrt(2 / (codes.shape[1] + self.feature_dim))  # Glorot's deviation of such a classifier
        distribution = self.run(params, "decoder", codes.to(params["decoder.weight"].dtype))  # (T, N, 2 D)
        mean, deviation = split_gaussian(distribution, offset)
        return mean if draw is None else mean + deviation * draw

    def _logits(self, features: Tensor, classifier: Tensor) -> Tensor:
        """(T, B, D), (T, N, D) -> (T, B, N), in float32 at least."""
        return inner_products(functional.dropout(features, self.dropout, self.training), classifier)


def _linear(n_inputs: int, n_outputs: int) -> nn.Linear:
    layer = nn.Linear(n_inputs, n_outputs, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def all_pairs(codes: Tensor) -> Tensor:
    """Each code beside each of its task's, itself included: (T, S, L) -> (T, S, S, 2 L)."""
    n = codes.shape[1]
    left = codes.unsqueeze(2).expand(-1, -1, n, -1)  # (T, S, S, L)
    return torch.cat([left, left.transpose(1, 2)], dim=-1)


@in_full_precision
def split_gaussian(parameters: Tensor, offset: float) -> tuple[Tensor, Tensor]:
    """A network's outputs as a normal distribution's mean and standard deviation.

    Args:
        parameters: (..., 2 L).
        offset: The deviation where the network puts out 0.

    Returns:
        Mean and deviation, (..., L) each, in float32 at least; the deviation is exp(output) - (1 - offset),
        above 0 and below 149.
    """
    mean, raw = parameters.chunk(2, dim=-1)
    return mean, (raw.clamp(max=LARGEST_EXPONENT).exp() - (1 - offset)).clamp(min=SMALLEST_DEVIATION)


@in_full_precision
def divergence_at(sample: Tensor, deviation: Tensor, draw: Tensor) -> Tensor:
    """log N(sample; mean, deviation) - log N(sample; 0, 1), whose expectation is the KL divergence.

    Args:
        sample: mean + deviation * draw, (...).
        deviation: (...).
        draw: (...); taken from the sample again it would be round-off where the deviation is small.

    Returns:
        (...), in float32 at least.
    """
    return 0.5 * (sample.square() - draw.square()) - deviation.log()


@in_full_precision
def orthogonality_penalty(rows: Tensor) -> Tensor:
    """The mean squared difference between the rows' correlations and the identity: (L, D) -> (), float32 at least."""
    unit = functional.normalize(rows, dim=1)  # (L, D)
    identity = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return (unit @ unit.T - identity).square().mean()
