"""The feature maps that relation networks compare."""

import math

from torch import Tensor, nn

from modules.backbones.backbone import Backbone


class RelationEmbedding(Backbone):
    """Four blocks of 3x3 convolution, batch normalisation and ReLU, the first two unpadded and with 2x2 max-pooling.

    Args:
        in_channels: C of the images.
        filters: Channels of every block.
        image_size: H = W of the images, in pixels.
        running_stats: Normalise by running statistics in evaluation (inductive) instead of always by the batch's own.
        weights: A file to begin from: a state_dict, or a checkpoint of a learner with such a backbone.
        frozen: Keep the weights as they are; needs `running_stats`.

    Attributes:
        map_shape: (filters, h, w) of the maps, which features are, flattened.

    Reference:
        Sung et al., "Learning to Compare", CVPR 2018, section 3.4, and the authors' code.
    """

    def __init__(
        self,
        in_channels: int = 1,
        filters: int = 64,
        image_size: int = 28,
        running_stats: bool = False,
        weights: str | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        size = ((image_size - 2) // 2 - 2) // 2
        if size < 1:
            raise ValueError(f"image_size = {image_size} is too small for two poolings: use 10 or more.")
        layers: list[nn.Module] = []
        for block, channels in enumerate((in_channels, filters, filters, filters)):
            layers += normalised_convolution(channels, filters, padding=int(block > 1), running_stats=running_stats)
            layers += [nn.MaxPool2d(2)] if block < 2 else []
        self.blocks = nn.Sequential(*layers)
        self.map_shape = (filters, size, size)
        self.feature_dim, self.input_shape = filters * size * size, (in_channels, image_size, image_size)
        self._begin(weights, frozen)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, D)."""
        features: Tensor = self.blocks(images).flatten(1)
        return features


def normalised_convolution(in_channels: int, filters: int, padding: int, running_stats: bool) -> list[nn.Module]:
    """A 3x3 convolution, batch normalisation and ReLU, with the authors' first weights."""
    conv = nn.Conv2d(in_channels, filters, 3, padding=padding, bias=False)
    nn.init.normal_(conv.weight, std=math.sqrt(2 / (9 * filters)))
    return [conv, nn.BatchNorm2d(filters, track_running_stats=running_stats), nn.ReLU()]
