"""What the ablations' own classes change, and that they change nothing else."""

import pytest
import torch
from torch import nn

from datamodules import Omniglot
from datamodules.images.bank import ImageBank
from modules import MAML, MLP, Conv4
from reproduction.other_ways import Conv4ByTorch, InkIs0, NormalHead, SmallWeights


def test_the_output_layer_is_drawn_from_n_0_1() -> None:
    torch.manual_seed(0)
    plain = MAML(n_way=20).state_dict()
    torch.manual_seed(0)
    changed = NormalHead(n_way=20).state_dict()
    weight = changed["network.head.weight"]  # (20, 64)
    assert float(weight.std()) == pytest.approx(1, abs=0.1)
    assert float(plain["network.head.weight"].std()) < 0.1
    assert not changed["network.head.bias"].any()
    assert all(torch.equal(value, changed[name]) for name, value in plain.items() if "head" not in name)


def test_all_layers_begin_with_small_weights() -> None:
    torch.manual_seed(0)
    learner = SmallWeights(backbone=MLP(input_shape=[1, 28, 28]))
    layers = [layer for layer in learner.modules() if isinstance(layer, nn.Linear)]
    assert learner.network.get_submodule("head") in layers
    for layer in layers:
        assert not layer.bias.any()
        assert 0.015 < layer.weight.detach().abs().max() <= 0.02
        assert 0.007 < layer.weight.detach().std() < 0.01


def test_convolutions_begin_as_torch_leaves_them() -> None:
    torch.manual_seed(0)
    layers = [layer for layer in Conv4ByTorch(running_stats=True).modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers:
        bound = layer.weight[0].numel() ** -0.5  # uniform in +- 1 / sqrt(fan in)
        assert 0.9 * bound < layer.weight.detach().abs().max() <= bound
    last = [layer for layer in Conv4().modules() if isinstance(layer, nn.Conv2d)][-1]
    assert last.weight.detach().abs().max() > 1.1 * layers[-1].weight[0].numel() ** -0.5


def test_ink_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = ImageBank.from_sizes(torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8), ["a", "b"], [4, 2])
    monkeypatch.setattr(Omniglot, "build_bank", lambda data: bank)
    inverted = InkIs0().build_bank()
    assert torch.equal(inverted.images, 255 - bank.images)
    assert inverted.class_names == bank.class_names
    assert (Omniglot().input_spec()["ink"], InkIs0().input_spec()["ink"]) == ("white on black", None)
