"""The shapes that backbones promise."""

from typing import Any

import pytest
import torch
from torch import nn

from modules import Conv4
from modules.functional.tasks.networks import normalises_by_batch


@pytest.mark.parametrize("downsample", ["stride", "pool"])
@pytest.mark.parametrize("reduce", ["mean", "flatten"])
@pytest.mark.parametrize(("in_channels", "image_size"), [(1, 28), (3, 32), (1, 16), (3, 33)])
def test_features_have_the_promised_length(downsample: Any, reduce: Any, in_channels: int, image_size: int) -> None:
    network = Conv4(in_channels, 5, image_size, downsample, reduce)
    assert network.input_shape == (in_channels, image_size, image_size)
    assert network(torch.rand(2, *network.input_shape)).shape == (2, network.feature_dim)


@pytest.mark.parametrize(("downsample", "feature_dim"), [("stride", 256), ("pool", 64)])
def test_flattened_omniglot_features_are_the_papers(downsample: Any, feature_dim: int) -> None:
    assert Conv4(downsample=downsample, reduce="flatten").feature_dim == feature_dim


def test_pooling_needs_sixteen_pixels() -> None:
    with pytest.raises(ValueError, match=r"image_size = 15 is too small .* use 16 or more"):
        Conv4(image_size=15, downsample="pool")


@pytest.mark.parametrize("running_stats", [True, False])
def test_running_stats_decides_what_evaluation_normalises_by(running_stats: bool) -> None:
    network = Conv4(filters=2, running_stats=running_stats)
    assert normalises_by_batch(network) is not running_stats


def test_a_convolution_before_batch_norm_has_no_bias() -> None:
    assert all(layer.bias is None for layer in Conv4().modules() if isinstance(layer, nn.Conv2d))
