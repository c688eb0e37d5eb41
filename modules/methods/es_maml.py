"""ES-MAML: meta-learning by evolution strategies, from function values alone."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from datamodules.episode import Episode, Task
from datamodules.tasks.counter import random_bits
from modules.backbones.backbone import Backbone
from modules.functional.normal_numbers import normal_numbers
from modules.functional.tasks.networks import Variables
from modules.learner.gradient_learner import GradientLearner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive

DIRECTIONS_STREAM = 1 << 23  # keeps these draws apart from those of tasks, mini-batches and augmentation


class ESMAML(GradientLearner):
    """MAML without a derivative anywhere: both loops follow estimates from perturbed weights.

    So it also trains what cannot be differentiated, such as the accuracy itself. An outer step evaluates `directions`
    pairs of perturbed initialisations of each task, and adapts every one of them by `inner_directions` pairs for each
    inner step; all are computed as so many tasks at once. It suits small networks.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, for 28x28 greyscale.
        improve: What both loops improve: the "loss", or the "score", e.g. the accuracy.
        sigma: Standard deviation of the outer loop's perturbations.
        directions: Pairs of perturbed initialisations for each task.
        inner_lr: Step size of the inner loop.
        inner_steps: Inner steps in training.
        inner_sigma: Standard deviation of the inner loop's perturbations.
        inner_directions: Pairs of perturbed weights for each inner step.
        adapts: What the inner loop moves: the "network", or its "head", the output layer, whose few weights a few
            directions say much of, and which is much faster.
        eval_inner_steps: Inner steps in evaluation; None: `inner_steps`.
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop.

    Reference:
        Song, Gao, Yang, Choromanski, Pacchiano and Tang, "ES-MAML: Simple Hessian-Free Meta Learning", ICLR 2020,
        Algorithm 3 with the adaptation operator of Algorithm 2. Deviations: the outer estimate is antithetic too, and
        all of a task's outer perturbations are adapted with the same inner directions, which lowers its variance.

    Checked:
        reference: a plain loop over tasks and directions.
    """

    through_steps = False

    def __init__(
        self,
        n_way: int = 5,
        backbone: Backbone | None = None,
        improve: Literal["loss", "score"] = "loss",
        sigma: float = 0.1,
        directions: int = 16,
        inner_lr: float = 0.4,
        inner_steps: int = 1,
        inner_sigma: float = 0.1,
        inner_directions: int = 16,
        adapts: Literal["network", "head"] = "network",
        eval_inner_steps: int | None = None,
        transductive: bool = True,
        outer: OuterLoop = OuterLoop(),
    ) -> None:
        check_positive(sigma=sigma, directions=directions, inner_lr=inner_lr)
        check_positive(inner_sigma=inner_sigma, inner_directions=inner_directions)
        super().__init__(n_way, backbone, inner_steps, eval_inner_steps, transductive, outer)
        self.save_hyperparameters()
        self.improve, self.sigma, self.directions, self.adapts = improve, sigma, directions, adapts
        self.inner_lr, self.inner_sigma, self.inner_directions = inner_lr, inner_sigma, inner_directions

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Tensor:
        """Directions, (T, steps * inner_directions, P), standard normal; in training then `directions` of the outer."""
        n_rows = steps * self.inner_directions + (self.directions if self.training else 0)
        n_weights = sum(value.numel() for value in self.fast_params(dict(self.named_parameters())).values())
        bits = random_bits(0, DIRECTIONS_STREAM, task_id, n_rows * n_weights)
        return normal_numbers(bits).unflatten(1, (n_rows, n_weights))

    @torch.no_grad()
    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Variables]:
        """Steps along estimated gradients of the support loss; a state is T sets of weights, name -> (T, *shape)."""
        start = self._flat(params).expand(len(task.x), 1, -1)  # (T, 1, P)
        for weights in self._descended(params, start, task, steps):
            yield {name: value.squeeze(1) for name, value in self._named(params, weights).items()}

    @torch.no_grad()
    def outer_gradients(self, params: Variables, episode: Episode) -> tuple[Variables, dict[str, Tensor]]:
        """The estimate of Algorithm 3's update with its sign turned, a mean over the T tasks."""
        outer = episode.task.noise[:, -self.directions :].to(self._flat(params))  # (T, directions, P)
        outputs = self._perturbed_outputs(params, episode, self.inner_steps)  # (T, 2 * directions, Q, n)
        cost = self._cost(outputs[..., : episode.task.n_way], episode.query_y).unsqueeze(1)  # (T, 1, 2 * directions)
        above, below = cost.split(self.directions, dim=2)
        gradient = evolution_gradient(above, below, outer, self.sigma).mean((0, 1))  # (P,)
        y = episode.query_y.unsqueeze(1).expand(outputs.shape[:3])
        loss, score = self.objective.loss(outputs, y), self.objective.score(outputs, y)
        return self._named(params, gradient), {"loss": loss.mean(), self.objective.score_name: score.mean()}

    @torch.no_grad()
    def trial(self, params: Variables, episode: Episode) -> None:
        """Computes one inner step and a prediction, in training of every perturbed initialisation."""
        if self.training:
            self._perturbed_outputs(params, episode, min(self.inner_steps, 1))
        else:
            super().trial(params, episode)

    def _perturbed_outputs(self, params: Variables, episode: Episode, steps: int) -> Tensor:
        """Returns the queries' outputs (T, 2 * directions, Q, n) of all perturbed initialisations after adaptation."""
        centre, task = self._flat(params), episode.task
        outer = task.noise[:, -self.directions :].to(centre)  # (T, directions, P)
        start = centre + self.sigma * torch.cat([outer, -outer], dim=1)  # (T, 2 * directions, P)
        *_, weights = self._descended(params, start, task, steps)
        queries = episode.query_x.unsqueeze(1)  # (T, 1, Q, ...)
        return self._outputs(params, weights, queries, keeps_statistics=True)

    def _descended(self, params: Variables, weights: Tensor, task: Task, steps: int) -> Iterator[Tensor]:
        """M sets of weights of each task, (T, M, P), after 0, 1, ..., `steps` inner steps."""
        yield weights
        noise, n_way = task.noise.to(weights), task.n_way
        n, m, layer, x = self.inner_directions, weights.shape[1], "", task.x.unsqueeze(1)  # (T, 1, S, ...)
        still, moving = weights[..., :0], weights
        if self.adapts == "head":
            named = self.fast_params(params).items()
            n_head = sum(value.numel() for name, value in named if name.startswith("network.head."))
            still, moving = weights.split([weights.shape[-1] - n_head, n_head], dim=-1)
            x = self._outputs(params, still, x, "backbone").repeat_interleave(2 * n, dim=1)  # (T, M * 2N, S, D)
            layer = "head"
        for step in range(steps):
            directions = noise[:, step * n : (step + 1) * n, still.shape[-1] :]  # (T, N, p)
            moves = self.inner_sigma * torch.cat([directions, -directions], dim=1)  # (T, 2N, p)
            around = (moving.unsqueeze(2) + moves.unsqueeze(1)).flatten(1, 2)  # (T, M * 2N, p)
            outputs = self._outputs(params, around, x, layer)[..., :n_way]  # (T, M * 2N, S, n_way)
            cost = self._cost(outputs, task.y).unflatten(1, (m, 2 * n))  # (T, M, 2N)
            gradient = evolution_gradient(cost[..., :n], cost[..., n:], directions, self.inner_sigma)  # (T, M, p)
            moving = moving - self.inner_lr * gradient
            yield torch.cat([still, moving], dim=-1)

    def _cost(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Returns what is to fall, of each set of weights: outputs (T, M, B, n), targets (T, B) -> (T, M)."""
        y = targets.unsqueeze(1).expand(outputs.shape[:3])
        if self.improve == "loss":
            return self.objective.loss(outputs, y).mean(2)
        score = self.objective.score(outputs, y).mean(2)
        return -score if self.objective.higher_is_better else score

    def _outputs(
        self, params: Variables, weights: Tensor, x: Tensor, layer: str = "", keeps_statistics: bool = False
    ) -> Tensor:
        """What M sets of a layer's weights (T, M, p) make of x (T, M, B, ...), or of one set of them (T, 1, B, ...)."""
        n_tasks, m = weights.shape[:2]
        given = {n: v for n, v in params.items() if n.startswith("network.")}
        copies = {name: self._repeated(params[name], m) for name in self.updated_buffers()}  # (T * M, C)
        named = {name: value.flatten(0, 1) for name, value in self._named(params, weights, layer).items()}
        examples = x.expand(n_tasks, m, *x.shape[2:]).flatten(0, 1)  # (T * M, B, ...)
        outputs = self.run(given | copies | named, f"network.{layer}".rstrip("."), examples)
        if keeps_statistics and self.training:
            for name, copy in copies.items():
                of_tasks = copy.unflatten(0, (n_tasks, m))
                params[name].copy_(of_tasks.mean(1) if copy.is_floating_point() else of_tasks[:, 0])
        return outputs.unflatten(0, (n_tasks, m))  # (T, M, B, ...)

    def _repeated(self, buffer: Tensor, m: int) -> Tensor:
        """A copy of a buffer for each set of weights in training, (T, *shape) -> (T * M, *shape); else one for all."""
        if self.training:
            return buffer.repeat_interleave(m, dim=0)
        return buffer[:1].expand(len(buffer) * m, *buffer.shape[1:])

    def _flat(self, params: Variables) -> Tensor:
        """All weights that are learned, (P,)."""
        return torch.cat([value.flatten() for value in self.fast_params(params).values()])

    def _named(self, params: Variables, weights: Tensor, layer: str = "") -> Variables:
        """A layer's weights by name: (..., p) -> name -> (..., *shape)."""
        fast = [name for name in self.fast_params(params) if name.startswith(f"network.{layer}")]
        parts = weights.split([params[name].numel() for name in fast], dim=-1)
        return {n: part.unflatten(-1, params[n].shape) for n, part in zip(fast, parts, strict=True)}


def evolution_gradient(above: Tensor, below: Tensor, directions: Tensor, sigma: float) -> Tensor:
    """The antithetic estimate of the gradient of E f(x + sigma g), g standard normal.

    Args:
        above: f(x + sigma g) for each of M points and each direction, (T, M, N).
        below: f(x - sigma g), (T, M, N).
        directions: g, the same for all points of a task, (T, N, P).
        sigma: Standard deviation of the perturbations.

    Returns:
        (T, M, P): the mean over N of (above - below) / (2 sigma) g.

    Reference:
        Song et al., "ES-MAML: Simple Hessian-Free Meta Learning", ICLR 2020, Algorithm 2 (ESGrad, antithetic); Salimans
        et al., "Evolution Strategies as a Scalable Alternative to Reinforcement Learning", 2017.
    """
    slopes = (above - below) / (2 * sigma * above.shape[-1])  # (T, M, N)
    with torch.autocast(directions.device.type, enabled=False):
        return slopes.to(directions.dtype) @ directions
