"""MAML++: MAML with what makes it train well."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datamodules.episode import Episode
from modules.backbones.backbone import Backbone
from modules.functional.inner_loop import Update, sgd, sgd_with
from modules.functional.tasks.networks import Variables, key_of, under_prefix
from modules.learner.gradient_learner import GradientLearner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive


class MAMLPlusPlus(GradientLearner):
    """MAML with a step size for each layer and step, batch normalisation for each step, and an annealed outer loss.

    Each of them can be switched off; with all off, and a constant outer step size, it is MAML.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, for 28x28 greyscale.
        inner_lr: Step size of the inner loop, or what the learned ones begin with.
        inner_steps: Inner steps in training.
        eval_inner_steps: Inner steps in evaluation; None: `inner_steps`. Those beyond training's are as its last.
        learn_inner_lr: Learn a step size for each tensor of weights and each step.
        per_step_norm: Batch normalisation has a scale, a shift and, with a backbone of running_stats, statistics of its
            own for each step, the network's being those of the last; the outer loop alone learns the former.
        multi_step_loss_steps: Outer steps in which the loss goes from the mean over all inner steps to the last one's;
            0: always the last one's.
        first_order_steps: Outer steps in which second derivatives are dropped, before they are taken.
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop; its step size falls as a cosine.

    Reference:
        Antoniou, Edwards and Storkey, "How to Train Your MAML", ICLR 2019, section 4. As in the authors' code, the
        query set after step k is normalised as in step k. Deviations: the outer loss is annealed at every outer step
        instead of every 500; the outer step size falls to 0 instead of 1e-5.

    Checked:
        reference: a plain loop over tasks and steps, and MAML where all is switched off.
    """

    training_loss = "multi_step_loss"

    def __init__(
        self,
        n_way: int = 5,
        backbone: Backbone | None = None,
        inner_lr: float = 0.1,
        inner_steps: int = 5,
        eval_inner_steps: int | None = None,
        learn_inner_lr: bool = True,
        per_step_norm: bool = True,
        multi_step_loss_steps: int = 5000,
        first_order_steps: int = 0,
        transductive: bool = True,
        outer: OuterLoop = OuterLoop(schedule="cosine"),
    ) -> None:
        check_positive(inner_lr=inner_lr, inner_steps=inner_steps)
        for name, steps in (("multi_step_loss_steps", multi_step_loss_steps), ("first_order_steps", first_order_steps)):
            if steps < 0:
                raise ValueError(f"{name} must be 0 or more, got {steps}.")
        super().__init__(n_way, backbone, inner_steps, eval_inner_steps, transductive, outer)
        self.save_hyperparameters()
        self.fixed_lr = inner_lr
        self.changes_with_step = bool(multi_step_loss_steps or first_order_steps)
        self.multi_step_loss_steps, self.first_order_steps = multi_step_loss_steps, first_order_steps
        layers = {name: v for name, v in self.network.named_modules() if isinstance(v, _BatchNorm) and per_step_norm}
        self.norms = nn.ModuleDict(  # of all steps but the last, whose are the network's own
            {
                key_of(name): nn.ModuleList(NormVariables(layer) for _ in range(inner_steps - 1))
                for name, layer in layers.items()
                if all(parameter.requires_grad for parameter in layer.parameters())
            }
        )
        moved = self.fast_params(dict(self.named_parameters()))
        step_sizes = {key_of(name): torch.full((inner_steps,), inner_lr) for name in moved}
        self.inner_lr = nn.ParameterDict(step_sizes if learn_inner_lr else {})

    @property
    def learned_arguments(self) -> tuple[str, ...]:
        """The step sizes' first value, where they are learned."""
        return ("inner_lr",) if self.inner_lr else ()

    def fast_params(self, params: Variables) -> Variables:
        """All of the network's weights but those of batch normalisations that have some for each step."""
        layers = tuple(f"network.{key.replace('/', '.')}." for key in self.norms)
        return {name: value for name, value in super().fast_params(params).items() if not name.startswith(layers)}

    def inner_update(self, params: Variables) -> Update:
        """Gradient descent with the step size of a tensor and a step, where they are learned."""
        if not self.inner_lr:
            return sgd(self.fixed_lr)
        return sgd_with(lambda step, name: params[f"inner_lr.{key_of(name)}"][self._trained(step)])

    def at_step(self, params: Variables, step: int, n_tasks: int) -> Variables:
        """The scales, shifts and statistics of batch normalisation in a step before the last, each (T, C)."""
        chosen: Variables = {}
        for key in self.norms:
            own = under_prefix(params, f"norms.{key}.{self._trained(step)}.")  # (C) each, statistics in training (T, C)
            layer = f"network.{key.replace('/', '.')}"
            chosen |= {f"{layer}.{name}": value.expand(n_tasks, value.shape[-1]) for name, value in own.items()}
        return chosen

    def query_loss(self, params: Variables, episode: Episode) -> tuple[Tensor, Tensor]:
        """The weighted sum of the query losses after each step, (T,); and the outputs after the last."""
        weights = step_weights(self.inner_steps, self._annealed())
        total = torch.zeros(len(episode.task_id), device=episode.query_x.device)
        states = self.adapt(params, episode.task, self.inner_steps)
        for weight, state in zip([0.0, *weights], states, strict=True):
            if weight:
                outputs = self.predict(params, state, episode.query_x)  # (T, Q, n_outputs)
                total = total + weight * self.objective.loss(outputs, episode.query_y).mean(1)
        return total, outputs

    def drops_second_derivatives(self) -> bool:
        """Tells whether training is still in its first-order part."""
        return self.outer_step < self.first_order_steps

    def _annealed(self) -> float:
        return self.outer_step / self.multi_step_loss_steps if self.multi_step_loss_steps else 1.0

    def _trained(self, step: int) -> int:
        return min(step, self.inner_steps - 1)


class NormVariables(nn.Module):
    """The variables of a batch normalisation in one inner step.

    Args:
        layer: The batch normalisation, whose variables they begin as.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__()
        for name, parameter in layer.named_parameters():
            self.register_parameter(name, nn.Parameter(parameter.detach().clone()))
        for name, buffer in layer.named_buffers():
            if buffer.is_floating_point():  # not the count of batches
                self.register_buffer(name, buffer.clone())


def step_weights(n_steps: int, progress: float, smallest: float = 0.03) -> list[float]:
    """The weights of the query losses after 1, ..., n_steps inner steps: all equal at first, then ever more the last's.

    Args:
        n_steps: K inner steps, 1 or more.
        progress: How far the annealing has come, 0 or more; from 1 on only the last step counts.
        smallest: Below this share of 1 / K no weight falls before that.

    Returns:
        K weights that sum to 1.

    Reference:
        Antoniou, Edwards and Storkey, "How to Train Your MAML", ICLR 2019, section 4, "Multi-Step Loss Optimization",
        and `get_per_step_loss_importance_vector` of the authors' code, where progress grows once an epoch.
    """
    if progress >= 1:
        return [0.0] * (n_steps - 1) + [1.0]
    other = max(1 - progress, smallest) / n_steps
    return [other] * (n_steps - 1) + [1 - (n_steps - 1) * other]
