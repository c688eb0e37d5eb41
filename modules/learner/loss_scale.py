"""float16's loss scale: the outer steps that it leaves out, and the end of a training in which it leaves out all."""

from typing import Any

from pytorch_lightning.core.optimizer import LightningOptimizer

SMALLEST = 1.0  # a gradient that overflows at this scale would do so without any


def took_step(optimizer: LightningOptimizer) -> bool:
    """Steps, and says whether the weights moved: not where a scaled gradient was not finite.

    The scaler reads that from the GPU anyway; asking the scaler itself would wait a second time.
    """
    taken: list[bool] = []

    def note(*_: Any) -> None:
        taken.append(True)

    hook = optimizer.optimizer.register_step_post_hook(note)
    try:
        optimizer.step()
    finally:
        hook.remove()
    return bool(taken)


def has_collapsed(scaler: Any) -> bool:
    """Tells whether the step that was just left out was so at a scale that no gradient overflows by.

    Args:
        scaler: A torch.amp.GradScaler after its update, which has lowered the scale.
    """
    return bool(scaler.get_scale() / scaler.get_backoff_factor() <= SMALLEST)
