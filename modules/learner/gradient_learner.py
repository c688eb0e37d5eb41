"""What MAML and its kin share: an inner loop of gradient steps on the weights of a network with a linear output."""

from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn

from datamodules.episode import Task
from modules.backbones.backbone import Backbone
from modules.backbones.conv4 import Conv4
from modules.backbones.wrapped_module import as_backbone
from modules.functional.inner_loop import Update, inner_loop
from modules.functional.tasks.networks import Variables, for_each_task
from modules.learner.fit_check import why_nothing_moves
from modules.learner.learner import Learner
from modules.learner.outer_loop import OuterLoop


class GradientLearner(Learner):
    """Learns a task by gradient steps on its support loss, from weights that all tasks begin with.

    Methods differ in which weights move (`fast_params`), by which rule (`inner_update`), down which loss (`inner_loss`)
    and in which network a step computes (`at_step`); and in the outer gradient.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, for 28x28 greyscale.
        inner_steps: Inner steps in training.
        eval_inner_steps: Inner steps in evaluation; None: `inner_steps`.
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop.
    """

    through_steps = True  # whether the outer gradient goes through the inner steps, so that all are kept in memory

    def __init__(
        self,
        n_way: int,
        backbone: Backbone | None,
        inner_steps: int,
        eval_inner_steps: int | None,
        transductive: bool,
        outer: OuterLoop,
    ) -> None:
        for name, steps in (("inner_steps", inner_steps), ("eval_inner_steps", eval_inner_steps)):
            if steps is not None and steps < 0:
                raise ValueError(f"{name} must be 0 or more, got {steps}.")
        backbone = Conv4(**self.default_backbone) if backbone is None else as_backbone(backbone)
        super().__init__(with_linear_head(backbone, n_way), outer)
        self.fixed_way, self.input_shape = n_way, backbone.input_shape
        self.inner_steps = inner_steps
        self.eval_inner_steps = inner_steps if eval_inner_steps is None else eval_inner_steps
        self.transductive = transductive

    def setup(self, stage: str) -> None:
        """Checks that data and Trainer fit the learner, and that the inner loop has something to move.

        Raises:
            ValueError: If they do not, or all that it would move is frozen.
        """
        super().setup(stage)
        if (self.inner_steps or self.eval_inner_steps) and not self.fast_params(dict(self.named_parameters())):
            raise ValueError(
                f"{type(self).__name__}'s inner loop has nothing to move, as {why_nothing_moves(self.backbone)}: "
                "give it a backbone that trains, or use a method that adapts the output layer, such as ANIL."
            )

    def fast_params(self, params: Variables) -> Variables:
        """The meta-parameters that the inner loop moves, name -> (*shape): all of the network's that are trained."""
        return {name: value for name, value in self.trainable(params).items() if name.startswith("network.")}

    def inner_update(self, params: Variables) -> Update:
        """The optimiser of the inner loop."""
        raise NotImplementedError

    def drops_second_derivatives(self) -> bool:
        """Tells whether the outer gradient takes the inner ones as constants, by now."""
        return False

    def at_step(self, params: Variables, step: int, n_tasks: int) -> Variables:
        """Returns what a step computes with in place of some of `params`, by name; (T, *shape) each, none here."""
        return {}

    def inner_loss(self, fast_params: Variables, initial: Variables, loss: Tensor) -> Tensor:
        """Returns what the inner loop descends, (T,): the support loss (T,), or that and a term of the weights."""
        return loss

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Variables]:
        """Gradient steps on the support loss; a state is what T tasks compute with, name -> (T, *shape).

        Tasks of fewer classes than the network has outputs leave the last ones unused.
        """
        n_tasks, fast = len(task.x), self.fast_params(params)
        others = {name: value for name, value in params.items() if name not in fast}
        initial = for_each_task(fast, n_tasks)

        def support_loss(step: int, fast_params: Variables) -> Tensor:
            outputs = self.run(others | self.at_step(params, step, n_tasks) | fast_params, "network", task.x)
            loss = self.objective.loss(outputs[..., : task.n_way], task.y).mean(1)  # (T,)
            return self.inner_loss(fast_params, initial, loss)

        keep_graph = self.training and self.through_steps
        first_order = self.drops_second_derivatives()
        states = inner_loop(support_loss, initial, self.inner_update(params), steps, first_order, keep_graph)
        for done, fast_params in enumerate(states):
            yield self.at_step(params, max(done - 1, 0), n_tasks) | fast_params

    def predict(self, params: Variables, state: Variables, query_x: Tensor) -> Tensor:
        """Outputs (T, Q, n_outputs) of the network with each task's fast weights."""
        return self.run(params | state, "network", query_x)


def with_linear_head(backbone: Backbone, n_outputs: int) -> nn.Module:
    """The backbone with a linear output layer on its features."""
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(backbone.feature_dim, n_outputs)))
