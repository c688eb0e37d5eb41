"""Almost no inner loop: MAML whose inner loop moves the output layer only."""

from collections.abc import Iterator

from torch import Tensor

from datamodules.episode import Task
from modules.functional.inner_loop import inner_loop
from modules.functional.tasks.networks import Variables, for_each_task
from modules.methods.maml import MAML


class ANIL(MAML):
    """MAML whose inner loop moves the output layer only; the backbone learns in the outer loop alone.

    The support set's features are the same at every inner step and are computed once.

    Reference:
        Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of
        MAML", ICLR 2020, section 4.

    Checked:
        reference: learn2learn on the features of the backbone.
    """

    in_learn2learn = False

    def fast_params(self, params: Variables) -> Variables:
        """The output layer's weights."""
        return {name: value for name, value in super().fast_params(params).items() if name.startswith("network.head.")}

    def adapt(self, params: Variables, task: Task, steps: int) -> Iterator[Variables]:
        """Gradient steps of the output layer on the support set's features."""
        features = self.run(params, "network.backbone", task.x)  # (T, S, D)

        def support_loss(step: int, fast_params: Variables) -> Tensor:
            outputs = self.run(params | fast_params, "network.head", features)  # (T, S, n_outputs)
            return self.objective.loss(outputs[..., : task.n_way], task.y).mean(1)  # (T,)

        initial = for_each_task(self.fast_params(params), len(task.x))
        return inner_loop(support_loss, initial, self.inner_update(params), steps, self.first_order, self.training)
