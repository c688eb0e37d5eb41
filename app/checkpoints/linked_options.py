"""The options that follow others: two trainings that differ in one of them differ in what it follows."""

from collections.abc import Mapping
from typing import Any

# An option, and the one that sets it, so that setting it has no effect. A learner's that follow the data's share their
# names and need not stand here.
LINKED = {"data.seed": "seed_everything"}
# Names that would mean one thing of the data and another of a learner.
NOT_LINKED = {
    "seed",  # data.seed follows seed_everything, and what follows one option cannot lead another
    "batch_size",  # of SupportQuery: the images that are answered at once, which changes no answer
    "augmentation",  # of the training images of the data; that of a learner would be its own, of its support images
}


def follows_the_data(name: str, config: Mapping[str, Any]) -> bool:
    """Tells whether an option is set by the data's option of the same name.

    Args:
        name: The option's, e.g. "model.n_way".
        config: A resolved configuration, whose model has the option.
    """
    section, _, argument = name.partition(".")
    of_data = (config.get("data") or {}).get("init_args") or {}
    return section == "model" and argument in of_data and argument not in NOT_LINKED
