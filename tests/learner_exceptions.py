"""What a single learner needs said in the tests that run over every learner: all that a new method may have to touch.

`tests/every_learner.py` builds small learners by general rules; here are the settings that these do not give, and the
parts of the contract that do not hold for a learner, each with its reason.
"""

from dataclasses import dataclass, field
from typing import Any

from datamodules.images.augmentation import Augmentation


@dataclass(frozen=True)
class Exceptions:
    """Those of one learner.

    Attributes:
        settings: Arguments of its small form; those of the outer loop under "outer".
        of_functions: Arguments with which the full one learns sine waves in 60 outer steps.
        left_out: The name of a test in tests/modules/contract/ -> why it does not hold.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    of_functions: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


SLOW_INNER_LOOP = {"inner_lr": 0.02}  # sine waves of amplitude 5 have steep losses

EXCEPTIONS: dict[str, Exceptions] = {
    "ANIL": Exceptions(of_functions=SLOW_INNER_LOOP),
    "BOIL": Exceptions(
        of_functions=SLOW_INNER_LOOP,
        left_out={"test_features_are_taken_in_place_of_images": "its inner loop moves the backbone and nothing else"},
    ),
    "ESMAML": Exceptions(
        # A third of the weights and of the directions: each of a task's directions is a network of its own.
        settings={"directions": 2, "inner_directions": 2, "inner_lr": 1e-3},
        of_functions={"inner_lr": 0.01, "sigma": 0.05, "inner_sigma": 0.05, "directions": 8, "inner_directions": 8},
        left_out={"test_train_loss_is_what_a_validation_logs": "in training it scores perturbed initialisations"},
    ),
    "FineTunedProtoNet": Exceptions(
        settings={"support_augmentation": Augmentation(flip=True)},
        left_out={"test_features_are_taken_in_place_of_images": "it refuses a frozen backbone, which it would tune"},
    ),
    "FromScratch": Exceptions(
        of_functions={"inner_steps": 20, "inner_lr": 0.01},
        left_out={
            "test_mixed_precision_gives_nearly_the_gradients_of_float32": "it has no outer gradient",
            "test_every_parameter_that_is_trained_learns": "nothing is trained",
        },
    ),
    "IMAML": Exceptions(of_functions={"inner_lr": 0.02, "inner_steps": 3, "regularisation": 1.0}),
    "LEO": Exceptions(
        settings={"outer": {"optimizer": "sgd", "lr": 0.1}},  # Adam makes steps of gradients that are round-off
        left_out={"test_train_loss_is_what_a_validation_logs": "in training it draws the codes that evaluation has"},
    ),
    "MAML": Exceptions(of_functions=SLOW_INNER_LOOP),
    # All that changes in the course of training changes within six steps.
    "MAMLPlusPlus": Exceptions(
        settings={"multi_step_loss_steps": 5, "first_order_steps": 2},
        of_functions={"inner_lr": 0.02, "inner_steps": 2},
    ),
    "MetaSGD": Exceptions(of_functions={"largest_lr": 0.02}),
    "Reptile": Exceptions(settings={"inner_lr": 0.01}, of_functions={"inner_lr": 0.01, "eval_inner_steps": 5}),
}


def exceptions_of(kind: type) -> Exceptions:
    """Returns what is said of a learner's class."""
    return EXCEPTIONS.get(kind.__name__, Exceptions())
