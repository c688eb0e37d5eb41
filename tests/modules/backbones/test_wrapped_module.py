"""Networks of a user's own as backbones: what is found out about them, what is left as it was, what is refused."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modules import ANIL, BOIL, LEO, MAML, FineTunedProtoNet, Learner, ProtoNet, Reptile
from modules.backbones.wrapped_module import as_backbone
from tests.learnable_images import make_data
from tests.plain_trainer import plain_trainer
from tests.training_runs import same, state_of


def with_maps() -> Any:
    """A network whose features are maps and which looks at its batch in training."""
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.MaxPool2d(2))


NETWORKS: dict[str, tuple[Callable[[], Any], int]] = {
    "flattened images": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU()), 5),
    "pooled maps": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)), 4),
    "padded": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten()), 8),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("kind", [MAML, ProtoNet])
def test_it_trains_tests_and_predicts(kind: Any, name: str) -> None:
    network, length = NETWORKS[name]
    learner: Any = kind(n_way=3, backbone=network()) if kind is MAML else kind(network())
    assert learner.backbone.feature_dim == length
    before = state_of(learner)
    trainer, data = plain_trainer(max_steps=1), make_data()
    trainer.fit(learner, datamodule=data)
    assert not same(before, state_of(learner))
    trainer.test(learner, datamodule=data, verbose=False)
    answers: Any = trainer.predict(learner, datamodule=data)
    assert answers[0]["answers"].shape == (8, 6, 3)


def test_what_the_network_says_of_itself_is_believed() -> None:
    network = with_maps()
    network.input_shape = [1, 8, 8]
    backbone = as_backbone(network)
    assert (backbone.input_shape, backbone.feature_dim) == ((1, 8, 8), 3 * 4 * 4)
    network.feature_dim = 7
    assert as_backbone(network).feature_dim == 7


class Counting(nn.Module):
    """Counts its passes, draws numbers of every kind, and drops."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = with_maps()
        self.register_buffer("passes", torch.zeros(()))

    passes: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Images to maps."""
        self.passes += 1
        outputs: Tensor = self.layers(images)
        return outputs + torch.rand(1) + random.random() + np.random.rand()  # noqa: NPY002  (the global state)


@pytest.mark.parametrize("trains", [True, False])
def test_finding_out_changes_nothing(trains: bool) -> None:
    network = Counting()
    network.layers.get_submodule("1").train(trains)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [layer.training for layer in network.modules()]
    of_numpy: Any = np.random.get_state()  # noqa: NPY002
    states = torch.get_rng_state(), random.getstate(), of_numpy[1].copy()
    assert as_backbone(network).feature_dim == 3 * 14 * 14
    assert same(before, network.state_dict())
    assert modes == [layer.training for layer in network.modules()]
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002
    assert np.array_equal(states[2], of_numpy[1])


def test_the_size_of_the_data_is_checked_before_it_is_trained_on() -> None:
    """Without one of its own, features were counted for 28x28 pixels."""
    with pytest.raises(ValueError, match=r"48 features .* \(1, 8, 8\), .* made for 588: set backbone.input_shape = "):
        plain_trainer(max_steps=1).fit(ProtoNet(with_maps()), datamodule=make_data())
    network = with_maps()
    network.input_shape = (1, 8, 8)
    plain_trainer(max_steps=1).fit(ProtoNet(network), datamodule=make_data())


def test_other_channels_are_refused_before_training() -> None:
    colour: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    with pytest.raises(ValueError, match=r"Sequential cannot take an example of shape \(1, 8, 8\)"):
        plain_trainer(max_steps=1).fit(MAML(3, colour), datamodule=make_data())


@pytest.mark.parametrize(
    ("backbone", "says"),
    [
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), "whose size is still open, such as LazyLinear"),
        (nn.LSTM(28, 4), "set its attribute input_shape"),
        (nn.Flatten(0), r"must give one tensor \(B, D\), and gives \(1568,\)"),
        (MAML, r"got <class .*MAML'>: write MAML\(...\)"),
        ("Conv4", "must be a torch.nn.Module, got 'Conv4'"),
    ],
    ids=["lazy", "of sequences", "without rows", "a class", "a name"],
)
@pytest.mark.parametrize("kind", [MAML, Reptile, ProtoNet, LEO])
def test_what_is_no_backbone_is_refused_in_one_line(kind: type[Learner], backbone: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refused:
        kind(backbone=backbone)  # type: ignore[call-arg]
    assert "\n" not in str(refused.value)


# ---- checkpoints


def trained(kind: Any, folder: Path, **arguments: Any) -> tuple[Path, Any]:
    """A checkpoint after one outer step, and the answers for the test tasks."""
    learner, trainer = kind(**arguments), plain_trainer(max_steps=1)
    trainer.fit(learner, datamodule=make_data())
    trainer.save_checkpoint(folder / "run.ckpt")
    return folder / "run.ckpt", trainer.predict(learner, datamodule=make_data())


KINDS = [MAML, ANIL, Reptile, ProtoNet, LEO, FineTunedProtoNet]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("weights_only", [None, True])
def test_a_checkpoint_is_loaded_with_the_module_alone(kind: Any, tmp_path: Path, weights_only: bool | None) -> None:
    network = NETWORKS["flattened images"][0]
    more = {MAML: {"n_way": 3}, ANIL: {"n_way": 3}, Reptile: {"n_way": 3, "eval_inner_steps": 2}}
    more |= {LEO: {"latent_steps": 1, "finetuning_steps": 1}, FineTunedProtoNet: {"eval_inner_steps": 1}}
    path, answers = trained(kind, tmp_path, backbone=network(), **more.get(kind, {}))
    with pytest.raises(ValueError, match=r"given its backbone as a module \(Sequential\).*backbone=\.\.\."):
        kind.load_from_checkpoint(path, weights_only=weights_only)
    loaded = kind.load_from_checkpoint(path, backbone=network(), weights_only=weights_only)
    again: Any = plain_trainer().predict(loaded, datamodule=make_data())
    assert all(torch.equal(a["answers"], b["answers"]) for a, b in zip(answers, again, strict=True))


def test_a_checkpoint_of_the_default_network_needs_no_backbone(tmp_path: Path) -> None:
    for kind in (MAML, Reptile, ProtoNet, LEO):
        plain_trainer().strategy.connect(learner := kind())
        checkpoint = {"hyper_parameters": dict(learner.hparams), "state_dict": learner.state_dict()}
        learner.trainer = plain_trainer()
        learner.on_save_checkpoint(checkpoint)
        torch.save(checkpoint | {"pytorch-lightning_version": "2.6.6"}, tmp_path / "default.ckpt")
        assert same(state_of(kind.load_from_checkpoint(tmp_path / "default.ckpt")), state_of(learner))


def test_arguments_of_other_types_do_not_make_a_checkpoint_unreadable(tmp_path: Path) -> None:
    path, _ = trained(
        MAML,
        tmp_path,
        n_way=3,
        backbone=NETWORKS["pooled maps"][0](),
        inner_lr=np.float64(0.3),
        inner_steps=np.int64(1),
    )
    arguments = torch.load(path, weights_only=True)["hyper_parameters"]
    assert (type(arguments["inner_lr"]), type(arguments["inner_steps"])) == (float, int)


@pytest.mark.parametrize("make", [lambda network: BOIL(3, network), ProtoNet, FineTunedProtoNet])
def test_a_network_without_parameters_is_not_called_frozen(make: Callable[[nn.Module], Learner]) -> None:
    with pytest.raises(ValueError, match=r"nothing to [\w-]+, as its backbone has no parameters: "):
        plain_trainer(max_steps=1).fit(make(nn.AdaptiveAvgPool2d(2)), make_data())
