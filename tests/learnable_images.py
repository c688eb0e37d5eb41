"""A data set in memory that a small network can learn, and the small networks that learn it."""

from typing import Any

import torch
from torch import Tensor, nn

from datamodules.episode import Episode
from datamodules.images.bank import ImageBank
from datamodules.images.bank_data import BankDataModule
from datamodules.settings import Evaluation
from modules.backbones.backbone import Backbone

N_CLASSES, IMAGES_EACH = 30, 12


class LearnableImages(BankDataModule):
    """30 classes of 12 noisy copies of a random pattern each; a third of the classes in each split."""

    image_shape = (1, 8, 8)

    def build_bank(self) -> ImageBank:
        generator = torch.Generator().manual_seed(0)
        patterns = torch.rand(N_CLASSES, 1, *self.image_shape, generator=generator)
        noise = torch.rand(N_CLASSES, IMAGES_EACH, *self.image_shape, generator=generator)
        images = ((0.6 * patterns + 0.4 * noise) * 255).to(torch.uint8).flatten(0, 1)  # (N, C, H, W)
        return ImageBank.from_sizes(images, [f"class{c}" for c in range(N_CLASSES)], [IMAGES_EACH] * N_CLASSES)

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        return {split: list(range(first, N_CLASSES, 3)) for first, split in enumerate(("train", "val", "test"))}


def make_data(**changes: Any) -> LearnableImages:
    evaluation = Evaluation(n_val_tasks=5, n_test_tasks=37, batch_size=8)
    arguments: dict[str, Any] = {"n_way": 3, "k_shot": 2, "n_query": 2, "meta_batch_size": 8, "evaluation": evaluation}
    return LearnableImages(**(arguments | changes))


def make_episode(n_tasks: int, dtype: torch.dtype = torch.float64, **changes: Any) -> Episode:
    """The first training tasks."""
    data = make_data(**changes)
    data.setup("fit")
    episode = data.episode("train", torch.arange(n_tasks))
    return episode.map_inputs(lambda x: x.to(dtype))


def arrays(episode: Episode) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Support images and labels, query images and labels."""
    return episode.task.x, episode.task.y, episode.query_x, episode.query_y


class TwoBlocks(Backbone):
    """Two blocks of convolution, batch normalisation and an activation, for images of 8x8."""

    def __init__(self, running_stats: bool = False, activation: type[nn.Module] = nn.ReLU, filters: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (1, filters):
            layers.append(nn.Conv2d(channels, filters, 3, stride=2, padding=1, bias=False))
            layers += [nn.BatchNorm2d(filters, track_running_stats=running_stats), activation()]
        self.layers = nn.Sequential(*layers)
        self.feature_dim, self.input_shape, self.map_shape = filters * 4, (1, 8, 8), (filters, 2, 2)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, 1, 8, 8) to features (B, D)."""
        return self.layers(images).flatten(1)
