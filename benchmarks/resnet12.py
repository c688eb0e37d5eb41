"""ResNet-12, the field's standard large network, as a load for the benchmark."""

from torch import Tensor, nn
from torch.nn import functional

from modules.backbones import Backbone


class ResNet12(Backbone):
    """Four residual blocks of three 3x3 convolutions and a 2x2 max-pooling, averaged over the last positions.

    Without DropBlock; the batch's own statistics normalise.

    Args:
        in_channels: C of the images.
        widths: Channels of the blocks.
        image_size: H = W of the images, in pixels.

    Reference:
        Lee et al., "Meta-Learning with Differentiable Convex Optimization", CVPR 2019, section 4.1, whose blocks use
        leaky ReLUs of slope 0.1.
    """

    def __init__(
        self, in_channels: int = 3, widths: tuple[int, ...] = (64, 160, 320, 640), image_size: int = 84
    ) -> None:
        super().__init__()
        ins = (in_channels, *widths[:-1])
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in zip(ins, widths, strict=True)))
        self.feature_dim, self.input_shape = widths[-1], (in_channels, image_size, image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, D)."""
        return self.blocks(images).mean((2, 3))  # (B, D, h, w) -> (B, D)


class ResidualBlock(nn.Module):
    """Three normalised convolutions beside a 1x1 one, then pooling that halves the sides."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels, out_channels):
            layers += [*normalised(channels, out_channels, 3), nn.LeakyReLU(0.1)]
        self.branch = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential(*normalised(in_channels, out_channels, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) to (B, D, h // 2, w // 2)."""
        both = functional.leaky_relu(self.branch(maps) + self.shortcut(maps), 0.1)
        return functional.max_pool2d(both, 2)


def normalised(in_channels: int, out_channels: int, size: int) -> list[nn.Module]:
    """A convolution that keeps the sides, and batch normalisation by the batch's own statistics."""
    conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, a=0.1, mode="fan_out", nonlinearity="leaky_relu")
    return [conv, nn.BatchNorm2d(out_channels, track_running_stats=False)]
