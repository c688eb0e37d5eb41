"""Model-agnostic meta-learning."""

from collections import OrderedDict
from collections.abc import Iterator

from torch import Tensor, nn

from datamodules.episode import Support
from modules.backbones import Backbone, Conv4
from modules.base import Learner
from modules.functional.inner_loop import inner_loop, sgd
from modules.functional.networks import Variables, for_each_task, part
from modules.learn2learn_loop import learn2learn_inner_loop
from modules.outer_loop import OuterLoop
from modules.settings import check_positive


class MAML(Learner):
    """Learns an initialisation from which a few gradient steps on the support set solve a task.

    The batch's own statistics normalise where the backbone has no running ones, as in the authors' code, so the
    headline score is transductive; the test reports the inductive one too.

    Args:
        n_way: Classes of a task: outputs of the network.
        backbone: Features below the linear output layer; None: Conv4 with strides, for 28x28 greyscale.
        inner_lr: Step size of the inner loop.
        inner_steps: Inner steps in training.
        eval_inner_lr: Inner step size in evaluation; None: `inner_lr`.
        eval_inner_steps: Inner steps in evaluation; None: `inner_steps`.
        first_order: Drop the second derivatives (FOMAML).
        transductive: Whether the headline score normalises a task's queries together.
        outer: The outer loop.

    Reference:
        Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
        Algorithm 2.
    """

    def __init__(
        self,
        n_way: int = 5,
        backbone: Backbone | None = None,
        inner_lr: float = 0.4,
        inner_steps: int = 1,
        eval_inner_lr: float | None = None,
        eval_inner_steps: int | None = None,
        first_order: bool = False,
        transductive: bool = True,
        outer: OuterLoop = OuterLoop(),
    ) -> None:
        check_positive(inner_lr=inner_lr, eval_inner_lr=eval_inner_lr)
        backbone = Conv4() if backbone is None else backbone
        super().__init__(with_linear_head(backbone, n_way), outer)
        self.save_hyperparameters()
        self.fixed_way, self.input_shape = n_way, backbone.input_shape
        self.inner_lr, self.inner_steps, self.first_order = inner_lr, inner_steps, first_order
        self.eval_inner_lr = inner_lr if eval_inner_lr is None else eval_inner_lr
        self.eval_inner_steps = inner_steps if eval_inner_steps is None else eval_inner_steps
        self.transductive = transductive

    def adapt(
        self, params: Variables, support: Support, n_way: int, steps: int, noise: Tensor | None
    ) -> Iterator[Variables]:
        """Gradient descent on the support loss; a state is T sets of fast weights, name -> (T, *shape).

        Tasks of fewer classes than the network has outputs leave the last ones unused.
        """
        lr = self.inner_lr if self.training else self.eval_inner_lr
        shared = self.trainable(params)
        others = {name: value for name, value in params.items() if name not in shared}

        def loss(outputs: Tensor, targets: Tensor) -> Tensor:
            return self.objective.loss(outputs[..., :n_way], targets)

        if self.task_strategy == "learn2learn":
            buffers = part({name: params[name] for name in self.updated_buffers()}, "network.")
            return learn2learn_inner_loop(self.network, buffers, support, loss, lr, steps, self.first_order)

        def support_loss(step: int, fast_params: Variables) -> Tensor:
            outputs = self.forward_network(fast_params | others, support.x)  # (T, S, n_outputs)
            return loss(outputs, support.y).mean(1)  # (T,)

        initial = for_each_task(shared, len(support.x))
        return inner_loop(support_loss, initial, sgd(lr), steps, self.first_order, keep_graph=self.training)

    def predict(self, params: Variables, state: Variables, query_x: Tensor) -> Tensor:
        """Logits (T, Q, n_outputs) of the network with each task's fast weights."""
        return self.forward_network(params | state, query_x)


def with_linear_head(backbone: Backbone, n_outputs: int) -> nn.Module:
    """The backbone with a linear output layer on its features."""
    return nn.Sequential(OrderedDict(backbone=backbone, head=nn.Linear(backbone.feature_dim, n_outputs)))
