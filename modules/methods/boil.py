"""Body only update in inner loop: MAML whose inner loop moves everything but the output layer."""

from modules.functional.tasks.networks import Variables
from modules.methods.maml import MAML


class BOIL(MAML):
    """MAML whose inner loop moves the backbone only; the output layer learns in the outer loop alone.

    So a task has to change the features, where ANIL reuses them.

    Reference:
        Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-shot Learning", ICLR 2021, section 3.

    Checked:
        reference: a plain loop over tasks and steps.
    """

    in_learn2learn = False

    def fast_params(self, params: Variables) -> Variables:
        """The backbone's weights."""
        moved = super().fast_params(params)
        return {name: value for name, value in moved.items() if not name.startswith("network.head.")}
