"""Almost no inner loop: MAML whose inner loop moves the output layer only."""

from collections.abc import Iterator

from torch import Tensor

from datamodules.episode import Support
from modules.functional.inner_loop import inner_loop
from modules.functional.networks import Variables, for_each_task
from modules.maml import MAML


class ANIL(MAML):
    """MAML whose inner loop moves the output layer only; the backbone learns in the outer loop alone.

    The support set's features are the same at every inner step and are computed once.

    Reference:
        Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of
        MAML", ICLR 2020, section 4.
    """

    in_learn2learn = False

    def fast(self, params: Variables) -> Variables:
        """The output layer's weights."""
        return {name: value for name, value in super().fast(params).items() if name.startswith("network.head.")}

    def adapt(
        self, params: Variables, support: Support, n_way: int, steps: int, noise: Tensor | None
    ) -> Iterator[Variables]:
        """Gradient steps of the output layer on the support set's features."""
        features = self.forward_network(params, support.x, "backbone")  # (T, S, D)

        def support_loss(step: int, fast_params: Variables) -> Tensor:
            outputs = self.forward_network(params | fast_params, features, "head")  # (T, S, n_outputs)
            return self.objective.loss(outputs[..., :n_way], support.y).mean(1)  # (T,)

        initial = for_each_task(self.fast(params), len(support.x))
        return inner_loop(support_loss, initial, self.rule(params), steps, self.first_order, self.training)
