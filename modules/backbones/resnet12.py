"""ResNet-12, the field's standard large network."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd

from modules.backbones.backbone import Backbone
from modules.functional.images.dropblock import drop_block


class ResNet12(Backbone):
    """Four residual blocks of three 3x3 convolutions and a 2x2 max-pooling, averaged over the last positions.

    Args:
        in_channels: C of the images.
        image_size: H = W of the images, in pixels.
        widths: Channels of the four blocks; the last is the features' length.
        drop_rate: Share of the activations that dropout, in the first two blocks, and DropBlock, in the last two, drop
            in training.
        block_size: H = W of the squares that DropBlock drops; smaller on maps that are smaller.
        running_stats: Normalise by running statistics in evaluation (inductive) instead of always by the batch's own
            (transductive where queries share a batch).
        weights: A file to begin from: a state_dict, or a checkpoint of a learner with such a backbone.
        frozen: Keep the weights as they are; needs `running_stats`.

    Reference:
        Lee et al., "Meta-Learning with Differentiable Convex Optimization", CVPR 2019, section 4.1, and the authors'
        code. Deviations: `drop_rate` holds from the first step on, where theirs grows over 40,000 batches; the last
        maps are averaged to D = 640, as most later work has it, where theirs are flattened. What is dropped is drawn
        by torch's generators, which every batch seeds anew: another `outer.task_chunk` drops other values.
    """

    def __init__(
        self,
        in_channels: int = 3,
        image_size: int = 84,
        widths: tuple[int, int, int, int] = (64, 160, 320, 640),
        drop_rate: float = 0.1,
        block_size: int = 5,
        running_stats: bool = True,
        weights: str | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        if image_size < 16:
            raise ValueError(f"image_size = {image_size} is too small for four halvings: use 16 or more.")
        if not 0 <= drop_rate < 1:
            raise ValueError(f"drop_rate must be in [0, 1), got {drop_rate}.")
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}.")
        blocks: list[nn.Module] = []
        for position, (before, after) in enumerate(zip((in_channels, *widths[:-1]), widths, strict=True)):
            drop = nn.Dropout(drop_rate) if position < 2 else DropBlock(drop_rate, block_size)
            blocks.append(ResidualBlock(before, after, running_stats, drop if drop_rate else nn.Identity()))
        self.blocks = nn.Sequential(*blocks)
        self.feature_dim, self.input_shape = widths[-1], (in_channels, image_size, image_size)
        self._begin(weights, frozen)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, D)."""
        return self.blocks(images).mean((2, 3))  # (B, D, h, w) -> (B, D)


class ResidualBlock(nn.Module):
    """Three normalised convolutions beside a 1x1 one, a leaky ReLU, pooling that halves the sides, and dropout.

    Args:
        in_channels: C.
        out_channels: D.
        running_stats: Whether batch normalisation keeps running statistics.
        drop: Comes last.
    """

    def __init__(self, in_channels: int, out_channels: int, running_stats: bool, drop: nn.Module) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels, out_channels):
            layers += [*_normalised(channels, out_channels, 3, running_stats), nn.LeakyReLU(0.1)]
        self.branch = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential(*_normalised(in_channels, out_channels, 1, running_stats))
        self.drop = drop

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, h // 2, w // 2)."""
        both = functional.leaky_relu(self.branch(maps) + self.shortcut(maps), 0.1)
        pooled: Tensor = self.drop(functional.max_pool2d(both, 2))
        return pooled


class DropBlock(_DropoutNd):
    """Drops squares of the feature maps in training, drawn from torch's generators as dropout is.

    Args:
        p: Share of the positions to drop.
        block_size: H = W of a square; the maps' own where they are smaller.
    """

    def __init__(self, p: float, block_size: int) -> None:
        super().__init__(p)
        self.block_size = block_size

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, S, S) to the same."""
        if not self.training:
            return maps
        size = min(self.block_size, *maps.shape[2:])
        corners = [side - size + 1 for side in maps.shape[2:]]
        draws = torch.rand(*maps.shape[:2], *corners, device=maps.device)
        return drop_block(maps, draws, self.p, size)


def _normalised(in_channels: int, out_channels: int, size: int, running_stats: bool) -> list[nn.Module]:
    """A convolution that keeps the sides, without the bias that the batch normalisation after it would take out."""
    conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
    return [conv, nn.BatchNorm2d(out_channels, track_running_stats=running_stats)]
