"""The entries that a learner adds to a checkpoint beside its weights."""

from typing import TYPE_CHECKING, Any

from modules.checkpoint_arguments import plain_arguments
from modules.resume_point import BEGUN, DRAWS

if TYPE_CHECKING:
    from modules.base import Learner


def add_contents(learner: "Learner", checkpoint: dict[str, Any]) -> None:
    """Adds what a user's image must be turned into, and how tasks were computed: another way sums in another order.

    A backbone given as a module rather than by the configuration must be given again when loading.

    Args:
        learner: The learner, whose weights and arguments the checkpoint holds.
        checkpoint: Its contents, before they are written.
    """
    data = getattr(learner.trainer, "datamodule", None)
    for key, owner in ((learner.CHECKPOINT_HYPER_PARAMS_KEY, learner), ("datamodule_hyper_parameters", data)):
        if key in checkpoint:
            checkpoint[key] = plain_arguments(checkpoint[key], type(owner))
    if data is not None:
        checkpoint["input_spec"] = data.input_spec()
        checkpoint[DRAWS] = data.draws
    elif learner.input_spec:
        checkpoint["input_spec"] = learner.input_spec
    learner.add_trained(checkpoint)
    checkpoint["objective"] = learner.objective.name
    checkpoint["skipped_steps"], checkpoint[BEGUN] = learner.skipped_steps, learner.begun_batches
    checkpoint["train_metrics"] = dict(learner.train_metrics)  # logged again where an outer step is begun again
    if learner.task_chunk is not None:
        checkpoint["task_strategy"], checkpoint["task_chunk"] = learner.task_strategy, learner.task_chunk
        checkpoint["layout_asked"] = [learner.outer.task_strategy, learner.outer.task_chunk]
