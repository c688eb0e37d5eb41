"""Networks of the timm library against the library's own forward, and files of weights."""

import re
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from huggingface_hub import constants

from modules import ProtoNet, Timm
from modules.backbones.weights import weights_follow

NETWORKS = ["test_vit", "test_resnet", "test_convnext", "mobilenetv3_small_050"]


def written(folder: Path, name: str, suffix: str = "pth") -> tuple[str, Any]:
    """A file with a whole network's random weights, head and statistics among them, and the network."""
    torch.manual_seed(1)
    network = timm.create_model(name, pretrained=False)
    network(torch.rand(4, 3, 160, 160))  # running statistics unlike those of a new network
    path = folder / f"{name}.{suffix}"
    if suffix == "safetensors":
        from safetensors.torch import save_file

        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    return str(path), network.eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_its_features_are_the_librarys_own(tmp_path: Path, name: str, suffix: str) -> None:
    path, network = written(tmp_path, name, suffix)
    backbone = Timm(name, weights=path, frozen=True).train()
    images = torch.rand(2, *backbone.input_shape)
    cfg = network.pretrained_cfg
    mean, std = (torch.tensor(cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    network.reset_classifier(0)
    expected = network((images - mean) / std)
    assert backbone.feature_dim == expected.shape[1]
    torch.testing.assert_close(backbone(images), expected)
    assert float(expected.detach().std()) > 1e-3


@pytest.mark.parametrize(("name", "size"), [("test_vit", 64), ("test_resnet", 40)])
def test_another_image_size(tmp_path: Path, name: str, size: int) -> None:
    path, network = written(tmp_path, name)
    backbone = Timm(name, weights=path, image_size=size)
    assert backbone.input_shape == (3, size, size)
    assert backbone(torch.rand(2, 3, size, size)).shape == (2, backbone.feature_dim)
    if name == "test_vit":  # 4 x 4 patches and two tokens, where the file has 10 x 10
        assert cast(Any, backbone.model).pos_embed.shape[1] < cast(Any, network).pos_embed.shape[1]


def test_grey_images_are_colour_ones_of_equal_channels() -> None:
    torch.manual_seed(0)
    grey = Timm("test_vit", pretrained=False, image_size=32, in_channels=1, frozen=True)
    colour = Timm("test_vit", pretrained=False, image_size=32, frozen=True)
    colour.load_state_dict(grey.state_dict())
    image = torch.rand(2, 1, 32, 32)
    assert grey.input_shape == (1, 32, 32)
    torch.testing.assert_close(grey(image), colour(image.repeat(1, 3, 1, 1)))


def test_a_learners_checkpoint_is_a_file_of_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = Timm("test_resnet", pretrained=False, image_size=32)
    torch.save({"state_dict": ProtoNet(backbone).state_dict()}, tmp_path / "learner.ckpt")
    again = Timm("test_resnet", weights=str(tmp_path / "learner.ckpt"), image_size=32).state_dict()
    assert all(torch.equal(again[name], value) for name, value in backbone.state_dict().items())


def test_frozen_it_keeps_its_statistics_and_else_it_trains() -> None:
    trained = Timm("test_resnet", pretrained=False, image_size=32).train()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    trained(torch.rand(4, 3, 32, 32)).sum().backward()
    assert any(not torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert all(parameter.grad is not None for parameter in trained.parameters())
    trained.freeze()
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    trained.train()(torch.rand(4, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


@pytest.fixture
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.usefixtures("_no_network")
def test_weights_that_cannot_be_fetched_are_named_with_the_mend() -> None:
    message = (
        r"weights of resnet10t are not here and cannot be fetched \(.*\): put their file .* set the backbone's weig"
    )
    with pytest.raises(ValueError, match=message) as caught:
        Timm("resnet10t")
    assert "\n" not in str(caught.value)
    with weights_follow():
        assert Timm("resnet10t").feature_dim == 512


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet10tt"}, "timm has no network 'resnet10tt'; did you mean resnet10t?"),
        ({"name": "zzzz"}, "timm has no network 'zzzz'; python -c"),
        ({"name": "resnet10t.mine"}, "timm has no weights 'resnet10t.mine'; there are resnet10t.c3_in1k."),
        ({"name": "test_vit", "image_size": 60}, "test_vit cannot take images of 60x60 pixels: set image_size"),
        ({"name": "test_convnext", "image_size": 2}, "test_convnext cannot take images of 2x2 pixels"),
        ({"name": "test_vit", "in_channels": 2}, "takes images of 1 or 3 channels, got in_channels = 2"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Timm(pretrained=False, **arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("other", ["test_resnet", "test_vit2"])
def test_another_networks_weights_are_refused(tmp_path: Path, other: str) -> None:
    path, _ = written(tmp_path, "test_vit")
    with pytest.raises(ValueError, match=r"weights .*test_vit.pth do not fit .* they hold no .* more") as caught:
        Timm(other, weights=path)
    assert "\n" not in str(caught.value)


def test_timm_is_imported_only_when_it_is_used() -> None:
    import subprocess

    code = "import sys, modules; sys.exit('timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
