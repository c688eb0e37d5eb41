"""Checks of a Trainer: learners step by themselves, and each device computes with a whole copy of one."""

from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
    SingleDeviceXLAStrategy,
    Strategy,
    XLAStrategy,
)

from datamodules.episode import Episode


def check_trainer(trainer: Trainer) -> None:
    """Checks what Lightning would ignore, or fail on later and in other words.

    Args:
        trainer: The Trainer that a learner was given to.

    Raises:
        ValueError: Names the argument and what to set in its place.
    """
    check_strategy(trainer.strategy, trainer.accelerator)
    if trainer.state.fn != "fit":
        return
    if trainer.gradient_clip_val:
        own = "clip_value" if trainer.gradient_clip_algorithm == "value" else "clip_norm"
        raise ValueError(
            f"Trainer(gradient_clip_val={trainer.gradient_clip_val}) has no effect on a learner that steps by itself: "
            f"give the learner outer=OuterLoop({own}={trainer.gradient_clip_val})."
        )
    if trainer.accumulate_grad_batches != 1:
        raise ValueError(
            f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches}) has no effect on a learner that steps "
            f"by itself: give the learner outer=OuterLoop(accumulate_batches={trainer.accumulate_grad_batches})."
        )


def check_strategy(strategy: Strategy, accelerator: Accelerator | None) -> None:
    """Checks that each device holds a whole learner, and that the device computes all that is needed.

    Args:
        strategy: The Trainer's.
        accelerator: The Trainer's.

    Raises:
        ValueError: If weights are divided over devices, or the device is neither a CPU nor an NVIDIA or AMD GPU.
    """
    plain = (SingleDeviceStrategy, DDPStrategy)
    others = (DeepSpeedStrategy, XLAStrategy, SingleDeviceXLAStrategy)
    if not isinstance(strategy, plain) or isinstance(strategy, others):
        raise ValueError(
            f"Trainer(strategy={type(strategy).__name__}) is not supported, as each device, a CPU or a CUDA GPU, must "
            "hold the whole learner: set strategy='ddp', or 'auto' on one device."
        )
    if not isinstance(accelerator, CPUAccelerator | CUDAAccelerator):
        raise ValueError(
            f"Trainer(accelerator={type(accelerator).__name__}) is not supported, as scores are summed in float64: set "
            "accelerator='cpu', or 'cuda' on a GPU."
        )


def check_episode(batch: object) -> None:
    """Checks a batch that a loader without a data module has given; a data module's own hook makes episodes.

    Raises:
        ValueError: If it is no Episode, as the numbers of tasks are none.
    """
    if not isinstance(batch, Episode):
        raise ValueError(
            f"a learner takes batches of type Episode, got {type(batch).__name__}: give the Trainer the data module "
            "itself, as in fit(learner, datamodule=data), and not its loaders."
        )
