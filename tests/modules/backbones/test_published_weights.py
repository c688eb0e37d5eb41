"""Files of weights as the field's repositories write them, loaded and compared with the network that wrote them."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modules import MLP, Conv4, ResNet12

SIDE, FILTERS = 32, 4


class CloserLookBlock(nn.Module):
    """Registers its layers twice: by name, and in `trunk`."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.C = nn.Conv2d(before, after, 3, padding=1)
        self.BN = nn.BatchNorm2d(after)
        self.trunk = nn.Sequential(self.C, self.BN, nn.ReLU(inplace=True), nn.MaxPool2d(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.trunk(x)


class NormFirstBlock(nn.Module):
    """Registers its normalisation before its convolution, as learn2learn does."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(after)
        self.conv = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(self.normalize(self.conv(x)).relu(), 2)


class FlatNames(nn.Module):
    """conv1, bn1, conv2, ..., as in many implementations of MAML."""

    def __init__(self) -> None:
        super().__init__()
        for number, before in enumerate((3, FILTERS, FILTERS, FILTERS), start=1):
            setattr(self, f"conv{number}", nn.Conv2d(before, FILTERS, 3, padding=1))
            setattr(self, f"bn{number}", nn.BatchNorm2d(FILTERS))

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, 5):
            x = nn.functional.max_pool2d(getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)).relu(), 2)
        return x.flatten(1)


def plain_block(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2))


def stacked(block: Callable[[int, int], nn.Module]) -> nn.Module:
    channels = (3, FILTERS, FILTERS, FILTERS)
    return nn.Sequential(*(block(before, FILTERS) for before in channels), nn.Flatten())


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: stacked(plain_block),
    "closer_look": lambda: stacked(CloserLookBlock),
    "norm_first": lambda: stacked(NormFirstBlock),
    "flat": FlatNames,
}
# How a network of theirs is wrapped in its training script, and its file.
WRAPPINGS: dict[str, Callable[[nn.Module], Any]] = {
    "bare": lambda network: network.state_dict(),
    "state": lambda network: {"epoch": 3, "state": nested(network, "feature", head=True).state_dict()},
    "params": lambda network: {"params": nested(network, "encoder").state_dict()},
    "model_sd": lambda network: {
        "config": {"a": 1},
        "model": "classifier",
        "model_sd": nested(network, "encoder", head=True).state_dict(),
        "training": {"optimizer_sd": optimizer_of(network)},
    },
    "data_parallel": lambda network: {"net": nested(nn.DataParallel(network), "encoder", head=True).state_dict()},
    "model_state_dict": lambda network: {
        "model_state_dict": nested(nested(network, "backbone"), "module").state_dict(),
        "optimizer": optimizer_of(network),
    },
    "with_average": lambda network: {
        "model": nested(network, "model").state_dict(),
        "model_ema": {name: value * 0.5 for name, value in nested(network, "model").state_dict().items()},
    },
}


def nested(network: nn.Module, name: str, head: bool = False) -> nn.Module:
    parts = OrderedDict({name: network})
    return nn.Sequential(parts | ({"classifier": nn.Linear(16, 64)} if head else {}))


def optimizer_of(network: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return optimizer.state_dict()


def trained(network: nn.Module) -> nn.Module:
    """With biases, scales and statistics of its own."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.5 + (1.0 if "norm" in name else 0.0))
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.momentum = None
    network(torch.rand(8, 3, SIDE, SIDE, generator=generator))
    return network.eval()


def conv4(path: Path, **changes: Any) -> Conv4:
    return Conv4(
        3, FILTERS, SIDE, downsample="pool", reduce="flatten", weights=str(path), **({"running_stats": True} | changes)
    ).eval()


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("layout", NETWORKS)
def test_what_others_wrote_gives_their_features(tmp_path: Path, capsys, layout: str, wrapping: str) -> None:
    theirs = trained(NETWORKS[layout]())
    torch.save(WRAPPINGS[wrapping](theirs), tmp_path / "theirs.tar")
    images = torch.rand(5, 3, SIDE, SIDE)
    ours = conv4(tmp_path / "theirs.tar")
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
    by_batch = conv4(tmp_path / "theirs.tar", running_stats=False)
    theirs.train()
    torch.testing.assert_close(by_batch(images), theirs(images), rtol=1e-4, atol=1e-4)
    told = capsys.readouterr().err
    assert "matched by the order and the shapes of 8 layers" in told
    assert "biases before a normalisation are taken into it" in told
    assert ("left out, as the backbone has no such layer: classifier" in told) == (
        wrapping in ("state", "model_sd", "data_parallel")
    )
    assert ("those of 'model' are taken, not of 'model_ema'" in told) == (wrapping == "with_average")


@pytest.mark.parametrize("layout", ["plain", "norm_first", "flat"])
def test_a_safetensors_file_has_lost_the_order_but_not_the_numbers(tmp_path: Path, layout: str) -> None:
    from safetensors.torch import save_file

    theirs = trained(NETWORKS[layout]())
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    images = torch.rand(5, 3, SIDE, SIDE)
    torch.testing.assert_close(conv4(tmp_path / "theirs.safetensors")(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_names_without_an_order_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    blocks = [plain_block(before, FILTERS) for before in (3, FILTERS, FILTERS, FILTERS)]
    theirs = nn.Sequential(OrderedDict(zip(("a_first", "b_second", "d_third", "c_fourth"), blocks, strict=True)))
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    with pytest.raises(ValueError, match=r"sorted by name, and names such as a_first\.# and b_second\.# do not say"):
        conv4(tmp_path / "theirs.safetensors")


def their_resnet12() -> nn.Module:
    """The keys of MetaOptNet, FEAT and Meta-Baseline, whose layers are registered in this order."""
    layers: dict[str, nn.Module] = {}
    for block, (before, after) in enumerate([(3, 4), (4, 6), (6, 8), (8, 10)], start=1):
        for number, channels in enumerate((before, after, after), start=1):
            layers[f"layer{block}_0_conv{number}"] = nn.Conv2d(channels, after, 3, padding=1, bias=False)
            layers[f"layer{block}_0_bn{number}"] = nn.BatchNorm2d(after)
        layers[f"layer{block}_0_downsample_0"] = nn.Conv2d(before, after, 1, bias=False)
        layers[f"layer{block}_0_downsample_1"] = nn.BatchNorm2d(after)
    return nn.ModuleDict(layers)


def test_resnet12_of_the_field(tmp_path: Path) -> None:
    theirs = their_resnet12()
    state = {f"encoder.{name.replace('_', '.')}": value for name, value in theirs.state_dict().items()}
    assert "encoder.layer1.0.downsample.1.running.var" in state
    state = {
        name.replace("running.", "running_").replace("num.batches.", "num_batches_"): v for name, v in state.items()
    }
    torch.save({"params": state}, tmp_path / "resnet12.pth")
    ours = ResNet12(image_size=16, widths=(4, 6, 8, 10), weights=str(tmp_path / "resnet12.pth")).state_dict()
    assert torch.equal(ours["blocks.2.branch.6.weight"], state["encoder.layer3.0.conv3.weight"])
    assert torch.equal(ours["blocks.3.shortcut.0.weight"], state["encoder.layer4.0.downsample.0.weight"])


def test_a_fully_connected_network_too(tmp_path: Path) -> None:
    layers = [nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6)]
    theirs = trained(nn.Sequential(*layers, nn.BatchNorm1d(6), nn.ReLU()))
    torch.save({"net": nested(theirs, "features").state_dict()}, tmp_path / "mlp.pth")
    ours = MLP([3, SIDE, SIDE], [8, 6], batch_norm=True, running_stats=True, weights=str(tmp_path / "mlp.pth")).eval()
    images = torch.rand(5, 3, SIDE, SIDE)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_our_own_names_below_any_prefix_and_with_a_head(tmp_path: Path, capsys) -> None:
    backbone = Conv4(3, FILTERS, SIDE, downsample="pool", running_stats=True)
    state = {f"module.encoder.{name}": value for name, value in backbone.state_dict().items()}
    state |= {"module.fc.weight": torch.zeros(5, 4), "module.fc.bias": torch.zeros(5), "module.temp": torch.ones(())}
    state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, tmp_path / "own.pth")
    loaded = conv4(tmp_path / "own.pth").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in backbone.state_dict().items() if "num" not in name)
    told = capsys.readouterr().err
    assert "left out, as the backbone has no such layer: module.fc, module.temp" in told
    assert "matched by" not in told


def deeper(theirs: nn.Module) -> Any:
    return nn.Sequential(*theirs.children(), plain_block(FILTERS, FILTERS)).state_dict()


def two_networks(theirs: nn.Module) -> Any:
    return {"student": theirs.state_dict(), "teacher": theirs.state_dict()}


def two_parts(theirs: nn.Module) -> Any:
    state = Conv4(3, FILTERS, SIDE, running_stats=True).state_dict()
    return {f"q.{n}": v for n, v in state.items()} | {f"k.{n}": v + 1 for n, v in state.items()}


def without_statistics(theirs: nn.Module) -> Any:
    return {name: value for name, value in theirs.state_dict().items() if "running" not in name}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            deeper,
            r"hold no blocks.0.0.weight.*; .* The file holds 35 tensors; 0.0.weight \(4, 3, 3, 3\); .* takes 24 tens",
        ),
        (two_networks, "hold several networks, 'student', 'teacher': save one of them alone"),
        (two_parts, "several parts of the file fit by their names, with different weights"),
        (without_statistics, r"The file holds 20 tensors; 0\.0\.weight \(4, 3, 3, 3\); 0\.0\.bias \(4,\)"),
        (lambda theirs: theirs, r"nothing but tensors is loaded: save .*state_dict\(\) alone, as a .safetensors file"),
        (lambda theirs: {"args": {"lr": 0.1}}, "hold no state_dict"),
    ],
)
def test_what_does_not_fit_says_what_the_file_holds(tmp_path: Path, content: Callable, message: str) -> None:
    torch.save(content(stacked(plain_block)), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message) as refused:
        conv4(tmp_path / "other.pth")
    assert "\n" not in str(refused.value)
