"""A frozen backbone stays as it is, with every learner, and is begun from a file's weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.settings import Loading
from modules import MAML, Conv4, Learner, OuterLoop, ProtoNet, Reptile, ResNet12
from modules.backbones.weights import weights_follow, weights_will_follow
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.training_runs import checkpoints, make_trainer, state_of


@pytest.fixture(autouse=True)
def _own_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


def frozen_blocks() -> TwoBlocks:
    """With running statistics that no average of equal numbers keeps by luck."""
    torch.manual_seed(0)
    backbone = TwoBlocks(running_stats=True)
    for _ in range(5):
        backbone(torch.rand(7, 1, 8, 8))
    backbone.freeze()
    return backbone


LEARNERS: dict[str, Callable[..., Learner]] = {
    "maml": lambda **outer: MAML(3, frozen_blocks(), 0.1, 2, outer=OuterLoop(**outer)),
    "reptile": lambda **outer: Reptile(3, frozen_blocks(), outer=OuterLoop("sgd", 1.0, **outer)),
    "cosine": lambda **outer: ProtoNet(frozen_blocks(), OuterLoop(**outer), "cosine"),
}


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("strategy", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("method", LEARNERS)
def test_only_the_rest_trains(method: str, strategy: str, cached: bool) -> None:
    learner = LEARNERS[method](task_strategy=strategy)
    before = state_of(learner)
    make_trainer(max_steps=3).fit(learner, datamodule=make_data(loading=Loading(cache_features=cached)))
    changed = {name for name, value in state_of(learner).items() if not torch.equal(value, before[name])}
    trained = {name for name, parameter in learner.named_parameters() if parameter.requires_grad}
    moments = {"steps", *(name.replace(".", "/") for name in trained)} if method == "reptile" else set()
    assert changed == trained | {f"carried.{name}" for name in moments}
    assert trained == ({"scale"} if method == "cosine" else {"network.head.weight", "network.head.bias"})
    learner.train()
    assert learner.backbone is not None
    assert not any(layer.training for layer in learner.backbone.modules())


def test_learn2learn_leaves_it_too() -> None:
    learner = LEARNERS["maml"](task_strategy="learn2learn")
    before = state_of(learner)
    make_trainer(max_steps=2).fit(learner, datamodule=make_data())
    after = state_of(learner)
    assert all(torch.equal(after[name], before[name]) for name in before if "backbone" in name)
    assert not torch.equal(after["network.head.weight"], before["network.head.weight"])


def test_dropout_is_off_in_training() -> None:
    backbone = ResNet12(image_size=16, widths=(2, 2, 2, 2), drop_rate=0.5, frozen=True).train()
    images = torch.rand(3, 3, 16, 16)
    assert torch.equal(backbone(images), backbone(images))


def test_nothing_to_train_is_said_before_training() -> None:
    message = r"ProtoNet has nothing to train, as its backbone is frozen: set model.distance to cosine"
    with pytest.raises(ValueError, match=message):
        make_trainer().fit(ProtoNet(frozen_blocks()), datamodule=make_data())
    (scores,) = make_trainer().test(ProtoNet(frozen_blocks()), datamodule=make_data(), verbose=False)
    assert scores["test/accuracy"] > 0.4


@pytest.mark.parametrize("kind", [Conv4, ResNet12])
def test_statistics_of_a_batch_cannot_be_frozen(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"a frozen {kind.__name__} .* set the backbone's running_stats to true"):
        kind(running_stats=False, frozen=True)


# ---- weights of a file


def changed_conv4() -> Conv4:
    torch.manual_seed(1)
    backbone = Conv4(filters=4, image_size=16, running_stats=True)
    backbone(torch.rand(5, 1, 16, 16))
    return backbone


def written(folder: Path, form: str) -> tuple[str, dict[str, torch.Tensor]]:
    """A file of some form with a Conv4's weights, and the weights."""
    backbone = changed_conv4()
    path = str(folder / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}")
    match form:
        case "safetensors":
            from safetensors.torch import save_file

            save_file(backbone.state_dict(), path)
        case "bare":
            torch.save(backbone.state_dict(), path)
        case "maml":
            torch.save({"state_dict": MAML(3, backbone).state_dict(), "epoch": 3}, path)
        case "protonet":
            torch.save({"state_dict": ProtoNet(backbone, distance="cosine").state_dict()}, path)
    return path, backbone.state_dict()


@pytest.mark.parametrize("form", ["safetensors", "bare", "maml", "protonet"])
def test_it_begins_from_a_files_weights(tmp_path: Path, form: str) -> None:
    path, weights = written(tmp_path, form)
    loaded = Conv4(filters=4, image_size=16, running_stats=True, weights=path, frozen=True).state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)


def test_a_checkpoint_of_a_run_is_such_a_file(tmp_path: Path) -> None:
    trained = ProtoNet(TwoBlocks(running_stats=True))
    make_trainer(*checkpoints(tmp_path), max_steps=4, val_check_interval=4).fit(trained, datamodule=make_data())
    fresh = TwoBlocks(running_stats=True)
    fresh._begin(str(tmp_path / "after-step=4.ckpt"), frozen=False)
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in trained.network.state_dict().items())


class Code:
    """What a file must not make run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"there is no such file; give that of a .safetensors, .pth, .bin or .ckpt file"),
        (b"no weights", "cannot be read"),
        ([1, 2], "hold no state_dict"),
        ({"code": Code()}, "hold print, and nothing but tensors is loaded"),
        ({"head.weight": torch.zeros(2)}, r"do not fit this Conv4: they hold no blocks.0.0.weight and \d+ more"),
        ({**Conv4(filters=8).state_dict()}, r"blocks.0.0.weight of \(8, 1, 3, 3\) for its \(4, 1, 3, 3\)"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(tmp_path: Path, content: object, message: str, capsys: Any) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message) as caught:
        Conv4(filters=4, weights=str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_no_file_is_asked_for_where_a_checkpoints_weights_follow() -> None:
    with weights_follow():
        Conv4(weights="/nowhere.pth")
    with pytest.raises(ValueError, match="no such file"):
        Conv4(weights="/nowhere.pth")


class Asks(ProtoNet):
    """Asks in its constructor."""

    def __init__(self) -> None:
        super().__init__(TwoBlocks(running_stats=True))
        self.asked = weights_will_follow()


def test_a_learner_is_loaded_without_the_file_that_it_began_from(tmp_path: Path) -> None:
    make_trainer(*checkpoints(tmp_path), max_steps=4, val_check_interval=4).fit(Asks(), datamodule=make_data())
    assert Asks.load_from_checkpoint(tmp_path / "after-step=4.ckpt", weights_only=True).asked
    assert not Asks().asked


def test_images_that_are_asked_about_are_embedded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside those of the one task that is tried, to find out how tasks are computed."""
    learner, embedded = LEARNERS["maml"]().eval(), []
    backbone = learner.backbone
    assert backbone is not None
    embed = backbone.embed

    def noting(images: torch.Tensor) -> torch.Tensor:
        embedded.append(len(images))
        return embed(images)

    monkeypatch.setattr(backbone, "embed", noting)
    episode = make_episode(5, torch.float32, n_query=4)
    learner.predict_step(episode, 0)
    assert sum(embedded) == (5 + 1) * 3 * (2 + 4)
    embedded.clear()
    learner.predict_step(episode, 1)
    assert sum(embedded) == 5 * 3 * (2 + 4)
