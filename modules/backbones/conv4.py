"""Conv4, the field's standard small network."""

from typing import Literal

from torch import Tensor, nn

from modules.backbones.backbone import Backbone


class Conv4(Backbone):
    """Four blocks of 3x3 convolution, batch normalisation and ReLU: the field's standard small network.

    Args:
        in_channels: C of the images.
        filters: Channels of every block.
        image_size: H = W of the images, in pixels.
        downsample: "stride": stride-2 convolutions (MAML and Reptile on Omniglot); "pool": 2x2 max-pooling (ProtoNet,
            mini-ImageNet).
        reduce: "mean" over the last block's positions (MAML on Omniglot) or "flatten" them.
        running_stats: Normalise by running statistics in evaluation (inductive) instead of always by the batch's own
            (transductive where queries share a batch).
        weights: A file to begin from: a state_dict, or a checkpoint of a learner with such a backbone.
        frozen: Keep the weights as they are; needs `running_stats`.

    Reference:
        Vinyals et al., "Matching Networks", NeurIPS 2016, section 4.1; with strides: Finn et al. 2017, section 5.2. The
        convolutions carry no bias: batch normalisation takes it out again, and its gradient would be round-off.
    """

    def __init__(
        self,
        in_channels: int = 1,
        filters: int = 64,
        image_size: int = 28,
        downsample: Literal["stride", "pool"] = "stride",
        reduce: Literal["mean", "flatten"] = "mean",
        running_stats: bool = False,
        weights: str | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        size, blocks = image_size, []
        for channels in (in_channels, filters, filters, filters):
            blocks.append(_block(channels, filters, downsample, running_stats))
            size = (size + 1) // 2 if downsample == "stride" else size // 2
        if size < 1:
            raise ValueError(
                f"image_size = {image_size} is too small for four halvings by {downsample!r}: use 16 or more."
            )
        self.blocks = nn.Sequential(*blocks)
        self.reduce = reduce
        self.feature_dim = filters if reduce == "mean" else filters * size * size
        self.map_shape = None if reduce == "mean" else (filters, size, size)
        self.input_shape = (in_channels, image_size, image_size)
        self._begin(weights, frozen)

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, D)."""
        maps = self.blocks(images)  # (B, filters, h, w)
        return maps.mean((2, 3)) if self.reduce == "mean" else maps.flatten(1)


def _block(in_channels: int, filters: int, downsample: str, running_stats: bool) -> nn.Sequential:
    stride = 2 if downsample == "stride" else 1
    conv = nn.Conv2d(in_channels, filters, 3, stride=stride, padding=1, bias=False)
    nn.init.xavier_uniform_(conv.weight)
    # Pooling before the ReLU gives the same as after it, with a quarter of the work.
    pool = [nn.MaxPool2d(2)] if downsample == "pool" else []
    return nn.Sequential(conv, nn.BatchNorm2d(filters, track_running_stats=running_stats), *pool, nn.ReLU())
