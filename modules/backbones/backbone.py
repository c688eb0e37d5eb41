"""The base of networks that turn examples into features."""

from torch import Tensor, nn

from modules.backbones.weights import load_weights, read_weights, weights_will_follow
from modules.functional.tasks.networks import normalises_by_batch


class Backbone(nn.Module):
    """A network from images to feature vectors; a subclass says how, in `embed`.

    A frozen one stays as it is while a learner trains: no gradients, no dropout, no update of running statistics. It
    passes features through, so that they can be computed once and given in place of the images.

    Attributes:
        feature_dim: D, the length of a feature vector.
        input_shape: (C, H, W) that it takes, or (D,) where it takes vectors; () where it does not say.
        frozen: Whether it stays as it is.
        map_shape: (C, h, w) of the feature maps that its features are, flattened; None where they are no maps.
    """

    feature_dim: int
    input_shape: tuple[int, ...] = ()
    frozen: bool = False
    map_shape: tuple[int, int, int] | None = None

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, D)."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, D); a frozen backbone of images passes features (B, D) through."""
        features = self.frozen and images.dim() == 2 and len(self.input_shape) > 1
        return images if features else self.embed(images)

    def freeze(self) -> None:
        """Keeps the weights and running statistics as they are from now on.

        Raises:
            ValueError: If the backbone normalises by its batch's statistics, so that features depend on other images.
        """
        if normalises_by_batch(self):
            raise ValueError(
                f"a frozen {type(self).__name__} must give each image features of its own, which the statistics of a "
                "batch do not: set the backbone's running_stats to true, or frozen to false."
            )
        self.frozen = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Switches between training and evaluation; a frozen one stays in evaluation."""
        super().train(mode and not self.frozen)
        return self

    def _begin(self, weights: str | None, frozen: bool) -> None:
        """The end of a constructor: loads a file's weights, unless a checkpoint's follow, and freezes."""
        if weights is not None and not weights_will_follow():
            load_weights(self, read_weights(weights), weights)
        if frozen:
            self.freeze()
