"""Reptile: first-order meta-learning by moving the initialisation towards the adapted weights."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from datamodules.episode import Episode, Task
from datamodules.tasks.counter import random_bits, random_order
from modules.backbones.backbone import Backbone
from modules.backbones.conv4 import Conv4
from modules.backbones.wrapped_module import as_backbone
from modules.functional.inner_loop import Update, adam, inner_loop, sgd
from modules.functional.mini_batches import take
from modules.functional.tasks.networks import Variables, for_each_task, key_of, under_prefix
from modules.learner.gradient_learner import with_linear_head
from modules.learner.learner import Learner
from modules.learner.outer_loop import OuterLoop
from modules.learner.settings import check_positive

HALVES = (torch.float16, torch.bfloat16)

MINI_BATCH_STREAM = 1 << 20  # keeps the draws of mini-batches apart from those of tasks


class Reptile(Learner):
    """Trains on mini-batches of a task, then moves the initialisation towards where that led, over many tasks.

    The outer gradient is phi - mean(phi~), so that plain SGD with step size epsilon makes the paper's update
    phi <- phi + epsilon * mean(phi~ - phi). It learns from the support set alone; the query set only measures.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, flattened, for 28x28 greyscale.
        inner_optimizer: "adam" (beta1 = 0) or "sgd".
        inner_lr: Step size of the inner optimiser.
        inner_steps: Mini-batches in training (the authors' inner iterations).
        inner_batch_size: Examples of a mini-batch in training.
        eval_inner_steps: Mini-batches in evaluation.
        eval_inner_batch_size: Examples of a mini-batch in evaluation.
        carry_moments: Whether the inner Adam's second moments go on from task to task, as in the authors' code. Where
            they start empty in every task, each weight's first step is `inner_lr` however small its gradient.
        transductive: Whether the headline score normalises a task's queries together, or each in one batch with the
            support.
        outer: The outer loop; plain SGD whose lr is the meta-step size epsilon, decaying linearly to 0.

    Reference:
        Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018, Algorithm 2 (batched). Deviation:
        the tasks of a batch begin with the same second moments and leave their mean to the next batch; in the authors'
        code each begins with those that the one before has left.

    Checked:
        reference: the authors' algorithm on each task alone, by torch's Adam.
    """

    default_backbone: ClassVar[dict[str, Any]] = {"reduce": "flatten"}

    def __init__(
        self,
        n_way: int = 5,
        backbone: Backbone | None = None,
        inner_optimizer: Literal["adam", "sgd"] = "adam",
        inner_lr: float = 1e-3,
        inner_steps: int = 5,
        inner_batch_size: int = 10,
        eval_inner_steps: int = 50,
        eval_inner_batch_size: int = 5,
        carry_moments: bool = True,
        transductive: bool = False,
        outer: OuterLoop = OuterLoop(optimizer="sgd", lr=1.0, schedule="linear"),
    ) -> None:
        check_positive(
            inner_lr=inner_lr, inner_batch_size=inner_batch_size, eval_inner_batch_size=eval_inner_batch_size
        )
        features = Conv4(**self.default_backbone) if backbone is None else as_backbone(backbone)
        super().__init__(with_linear_head(features, n_way), outer)
        self.save_hyperparameters()
        self.fixed_way, self.input_shape = n_way, features.input_shape
        self.inner_steps, self.inner_batch_size = inner_steps, inner_batch_size
        self.eval_inner_steps, self.eval_inner_batch_size = eval_inner_steps, eval_inner_batch_size
        self.inner_optimizer, self.inner_lr = inner_optimizer, inner_lr
        carried = dict(self.named_parameters()) if carry_moments and inner_optimizer == "adam" else {}
        if features.frozen:
            carried = {name: value for name, value in carried.items() if "backbone." not in name}
        self.carried = SecondMoments(carried) if carried else None
        self.transductive = transductive

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Variables]:
        """The inner optimiser on mini-batches of the support set; a state is T sets of weights, name -> (T, *shape).

        Tasks of fewer classes than the network has outputs leave the last ones unused.
        """
        shared = self.trainable(params)
        weights = for_each_task(shared, len(task.x))
        others = {name: value for name, value in params.items() if name not in shared}

        def mini_batch_loss(step: int, fast_params: Variables) -> Tensor:
            x, y = take(task.x, task.noise[:, step]), take(task.y, task.noise[:, step])  # (T, B, ...), (T, B)
            outputs = self.run(fast_params | others, "network", x)[..., : task.n_way]  # (T, B, n_way)
            return self.objective.loss(outputs, y).mean(1)  # (T,)

        if self.carried is None:
            rule = adam(self.inner_lr) if self.inner_optimizer == "adam" else sgd(self.inner_lr)
        else:
            own = under_prefix(params, "carried.")
            rule = adam_from(own, weights, self.inner_lr, steps, leaves_them=self.training)
        yield from inner_loop(mini_batch_loss, weights, rule, steps)

    def predict(self, params: Variables, state: Variables, query_x: Tensor) -> Tensor:
        """Logits (T, Q, n_outputs) of the network with each task's weights."""
        return self.run(params | state, "network", query_x)

    def outer_gradients(self, params: Variables, episode: Episode) -> tuple[Variables, dict[str, Tensor]]:
        """The direction of Algorithm 2's update with its sign turned: phi - mean over tasks of phi~."""
        with torch.no_grad():
            *_, state = self.adapt(params, episode.task, self.inner_steps)
            # The queries measure progress; they must not touch the running statistics that the support updates.
            of_network = {name: value.clone() for name, value in params.items() if name.startswith("network.")}
            outputs = self.predict(of_network, state, episode.query_x)
        metrics = {
            "loss": self.objective.loss(outputs, episode.query_y).mean(),
            self.objective.score_name: self.objective.score(outputs, episode.query_y).mean(),
        }
        return {name: params[name].detach() - adapted.mean(0) for name, adapted in state.items()}, metrics

    def draw_noise(self, task_id: Tensor, n_support: int, steps: int) -> Tensor:
        """Mini-batches of the support set, (T, steps, B) indices, without replacement until it is used up."""
        size = self.inner_batch_size if self.training else self.eval_inner_batch_size
        rounds = -(-steps * size // n_support)
        bits = random_bits(0, MINI_BATCH_STREAM, task_id, rounds * n_support)  # (T, rounds * S)
        return mini_batch_indices(random_order(bits.unflatten(1, (rounds, n_support))), size, steps)


class SecondMoments(nn.Module):
    """The second moments of an inner Adam, and the number of steps that they come from; buffers that training updates.

    They stay float32 where a network is made half: 0.999 times a bfloat16 number is the number itself.

    Args:
        parameters: Those that Adam moves, by name.
    """

    steps: Tensor

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        for name, parameter in parameters.items():
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            self.register_buffer(key_of(name), torch.zeros_like(parameter, dtype=dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def moved(value: Tensor) -> Tensor:
            changed = fn(value)
            return value.to(changed.device) if changed.dtype in HALVES else changed

        return super()._apply(moved, recurse)


def adam_from(carried: Variables, weights: Variables, lr: float, steps: int, leaves_them: bool) -> Update:
    """Adam that begins with the carried moments.

    Args:
        carried: "steps", (T,), and a second moment for each weight, (T, *shape), by their names in SecondMoments.
        weights: What is to be moved, name -> (T, *shape).
        lr: Step size.
        steps: The number of steps that will be taken.
        leaves_them: Whether the last step leaves in `carried` what the moments have come to, as in training.

    Raises:
        ValueError: If a weight has none, as where it was frozen when the learner was made.
    """
    for name in weights:
        if key_of(name) not in carried:
            raise ValueError(
                f"{name} has no second moment to go on from: unfreeze it before the learner is made, or set "
                "carry_moments to false."
            )
    start = {name: carried[key_of(name)].expand_as(value) for name, value in weights.items()}
    taken = carried["steps"]
    rule = adam(lr, before=taken.flatten()[0])

    def update(
        step: int, loss: Tensor, params: Variables, gradients: Variables, moments: Variables
    ) -> tuple[Variables, Variables]:
        params, moments = rule(step, loss, params, gradients, moments or start)
        if step == steps - 1 and leaves_them:
            taken.add_(steps)
            for name, moment in moments.items():
                carried[key_of(name)].copy_(moment)
        return params, moments

    return update


def mini_batch_indices(orders: Tensor, batch_size: int, steps: int) -> Tensor:
    """Cuts repeated shuffles of a task's examples into mini-batches.

    The examples are gone through in one shuffled order after another, so every example is used once before any is used
    twice; a mini-batch may span the end of one order and the start of the next, as in the authors' code.

    Args:
        orders: (T, R, S) int64: R permutations of a task's S examples, R * S >= steps * batch_size.
        batch_size: Examples in a mini-batch.
        steps: Number of mini-batches.

    Returns:
        (T, steps, batch_size) int64 indices into the S examples.

    Reference:
        Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018, section 6.3 (mini-batches without
        replacement), and `_mini_batches` in the authors' supervised-reptile.
    """
    return orders.flatten(1)[:, : steps * batch_size].unflatten(1, (steps, batch_size))
