"""The images that a learner's weights come from: 8 bytes of each, carried from checkpoint to checkpoint.

A checkpoint holds them as `trained_images`, (M,) int64, sorted, each once: those of the training split, of what its
training began from, and of a checkpoint that its backbone's weights come from. A data set compares them with its own.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

TRAINED_CLASSES = "trained_classes"  # a checkpoint's keys
TRAINED_IMAGES = "trained_images"
SCORED = {"fit": ("val", "test"), "validate": ("val",)}  # the splits of a stage; of others the test split


def union(*images: Tensor) -> Tensor:
    """All of these (M,) int64, sorted, each once.

    Example:
        >>> union(torch.tensor([3, 1]), torch.tensor([3, 2])).tolist()
        [1, 2, 3]
    """
    return torch.cat([torch.empty(0, dtype=torch.int64), *images]).unique()


def images_of(checkpoint: dict[str, Any]) -> Tensor:
    """Returns the digests of what a checkpoint was trained on, (M,) int64; empty where it does not say."""
    found = checkpoint.get(TRAINED_IMAGES)
    return union(found) if isinstance(found, Tensor) and found.dtype == torch.int64 and found.dim() == 1 else union()


def images_of_file(path: str) -> Tensor:
    """Returns the digests of what a file of weights was trained on, (M,) int64.

    They are empty where it is no checkpoint of ours, or does not say.
    """
    file = Path(path).expanduser()
    if file.suffix == ".safetensors":
        return union()
    content = torch.load(file, map_location="cpu", weights_only=True)
    return images_of(content) if isinstance(content, dict) else union()


def images_of_network(network: nn.Module) -> Tensor:
    """Returns the digests of what the files were trained on that a network's parts began from, (M,) int64."""
    found = [getattr(part, TRAINED_IMAGES, None) for part in network.modules()]
    return union(*(images for images in found if isinstance(images, Tensor)))


class TrainedOn(pl.LightningModule):
    """Carries what weights were trained on, and refuses to score them on any of that.

    Attributes:
        trained_classes: The names of the classes that these weights were trained on.
        trained_images: (M,) int64, the digests of the images, sorted, each once.
    """

    trained_classes: list[str]
    trained_images: Tensor

    def begin_untrained(self, network: nn.Module) -> None:
        """Knows nothing yet, but what the network's files were trained on."""
        self.trained_classes, self.trained_images = [], images_of_network(network)

    def on_train_start(self) -> None:
        """Checks validation and test, and counts the training split in."""
        self.check_unseen("fit")
        data: Any = getattr(self.trainer, "datamodule", None)
        if hasattr(data, "trained_images"):
            self.trained_classes = sorted({*self.trained_classes, *data.trained_classes()})
            self.trained_images = union(self.trained_images, data.trained_images())

    def on_validation_start(self) -> None:
        """Checks the validation split, outside of training."""
        if self.trainer.state.fn == "validate":
            self.check_unseen("validate")

    def on_test_start(self) -> None:
        """Checks the test split."""
        self.check_unseen("test")

    def on_predict_start(self) -> None:
        """Checks the test split, or a user's own images."""
        self.check_unseen("predict")

    def check_unseen(self, stage: str) -> None:
        """Checks that the weights were not trained on what a stage scores.

        Args:
            stage: Lightning's.

        Raises:
            ValueError: If they were, unless the data's evaluation.leaks is "warn".
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        if hasattr(data, "check_unseen") and (self.trained_classes or len(self.trained_images)):
            data.check_unseen(self.trained_classes, SCORED.get(stage, ("test",)), self.trained_images)

    def add_trained(self, checkpoint: dict[str, Any]) -> None:
        """Adds to a checkpoint what the weights were trained on."""
        checkpoint[TRAINED_CLASSES] = self.trained_classes
        if len(self.trained_images):
            checkpoint[TRAINED_IMAGES] = self.trained_images

    def take_trained(self, checkpoint: dict[str, Any]) -> None:
        """Takes from a checkpoint what its weights were trained on, in place of what the learner's own were."""
        self.trained_classes, self.trained_images = list(checkpoint.get(TRAINED_CLASSES, [])), images_of(checkpoint)
