"""Features in place of images: the same answers, computed once, kept by what they were made from."""

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from datamodules.episode import Episode
from datamodules.images.augmentation import Augmentation
from datamodules.images.bank import ImageBank
from datamodules.settings import Loading
from modules import MAML, ProtoNet
from modules.backbones.frozen_features import computed_with, frozen_embedding
from modules.functional.matmul_precision import MatmulPrecision, set_matmul_precision
from modules.learner.learner import Learner
from tests.learnable_images import LearnableImages, TwoBlocks, make_data
from tests.training_runs import largest_difference, make_trainer, state_of

IMAGES_OF_A_SPLIT = 10 * 12


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "quickstudy"


class Counting(TwoBlocks):
    """Counts the images that it embeds."""

    embedded = 0

    def embed(self, images: Tensor) -> Tensor:
        type(self).embedded += len(images)
        return super().embed(images)


@pytest.fixture(autouse=True)
def _from_nought() -> None:
    Counting.embedded = 0


def make_learner(method: str = "protonet", seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    backbone = Counting(running_stats=True)
    backbone(torch.rand(20, 1, 8, 8))
    backbone.freeze()
    Counting.embedded = 0
    return ProtoNet(backbone, distance="cosine") if method == "protonet" else MAML(3, backbone, 0.1)


def without_cache(**changes: Any) -> LearnableImages:
    return make_data(loading=Loading(cache_features=False), **changes)


@pytest.mark.parametrize("method", ["protonet", "maml"])
def test_training_and_testing_on_features_gives_what_images_give(method: str) -> None:
    results = []
    for data in (make_data(), without_cache()):
        learner, trainer = make_learner(method), make_trainer()
        trainer.fit(learner, datamodule=data)
        results.append((state_of(learner), trainer.test(learner, datamodule=data, verbose=False)[0]))
    (state, scores), (expected_state, expected_scores) = results
    assert largest_difference(state, expected_state) < 1e-5
    assert scores == pytest.approx(expected_scores, abs=1e-5)


def test_every_image_is_embedded_once_and_then_never_again(cache: Path) -> None:
    learner, trainer = make_learner(), make_trainer()
    trainer.fit(learner, datamodule=make_data())
    assert Counting.embedded == 2 * IMAGES_OF_A_SPLIT  # of training and validation
    trainer.test(learner, datamodule=make_data(), verbose=False)
    assert Counting.embedded == 3 * IMAGES_OF_A_SPLIT
    make_trainer().test(learner, datamodule=make_data(), verbose=False)
    assert Counting.embedded == 3 * IMAGES_OF_A_SPLIT
    assert len(list(cache.glob("learnableimages-*-features-*.bank"))) == 3


def test_other_weights_have_other_features() -> None:
    scores = []
    for seed in (0, 1, 0):
        learner = make_learner(seed=seed)
        scores.append(make_trainer().test(learner, datamodule=make_data(), verbose=False)[0])
        assert scores[-1] == make_trainer().test(learner, datamodule=without_cache(), verbose=False)[0]
    assert scores[0] == scores[2] != scores[1]


class OtherImages(LearnableImages):
    """Inverted, but for the first classes of the splits."""

    def build_bank(self) -> ImageBank:
        bank = super().build_bank()
        images = torch.cat([bank.images[:36], 255 - bank.images[36:]])
        return ImageBank(images, bank.class_names, bank.class_start, bank.class_size)


class OtherScaling(LearnableImages):
    """Half as bright."""

    def normalise(self, images: Tensor) -> Tensor:
        return super().normalise(images) / 2


class OtherSplit(LearnableImages):
    """Tests on the classes that others train on, but for the first."""

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        splits = super().split_classes(bank)
        train, test = splits["train"], splits["test"]
        return splits | {"train": train[:1] + test[1:], "test": test[:1] + train[1:]}


@pytest.mark.parametrize("kind", [OtherImages, OtherScaling, OtherSplit])
def test_other_images_have_other_features(kind: type[LearnableImages]) -> None:
    kind.__name__ = "LearnableImages"  # the readable part of the cache's name
    make_trainer().test(make_learner(), datamodule=make_data(), verbose=False)
    arguments: dict[str, Any] = {"n_way": 3, "k_shot": 2, "n_query": 2}
    learner = make_learner()
    scores = [
        make_trainer().test(learner, datamodule=kind(**arguments, loading=loading), verbose=False)[0]
        for loading in (Loading(), Loading(cache_features=False))
    ]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_augmented_training_images_stay_images() -> None:
    data, learner = make_data(augmentation=Augmentation(flip=True)), make_learner()
    trainer = make_trainer()
    seen: list[tuple[int, int]] = []
    score = learner._score

    def watched(episode: Episode, both_protocols: bool) -> None:
        seen.append((Counting.embedded, episode.task.x.dim()))
        score(episode, both_protocols)

    learner._score = watched  # type: ignore[method-assign]
    trainer.fit(learner, datamodule=data)
    assert {dim for _, dim in seen} == {3}
    assert Counting.embedded == IMAGES_OF_A_SPLIT + 6 * 8 * 3 * 4  # validation's once, and those of each training task


def test_episodes_to_look_at_are_images_and_are_answered_the_same() -> None:
    data, learner, trainer = make_data(), make_learner(), make_trainer()
    trainer.fit(learner, datamodule=data)
    task_id = torch.arange(3)
    images = data.episode("val", task_id)
    assert images.task.x.shape == (3, 6, 1, 8, 8)
    features = data._draw("val", task_id, in_features=True)
    assert features.task.x.shape == (3, 6, 16)
    assert torch.equal(features.query_y, images.query_y)
    answers = [learner.classifier(e.task)(e.query_x) for e in (images, features)]
    mixed = learner.classifier(features.task)(images.query_x)
    torch.testing.assert_close(answers[0], answers[1])
    torch.testing.assert_close(answers[0], mixed)


@pytest.mark.parametrize("images_on", ["cpu", "device"])
def test_predictions_are_those_of_images(images_on: Any) -> None:
    learner = make_learner()
    answers = [
        make_trainer().predict(learner, datamodule=make_data(loading=Loading(images_on, cache_features=cached)))
        for cached in (True, False)
    ]
    assert answers[0] is not None
    assert answers[1] is not None
    for ours, expected in zip(*answers, strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_learner_that_trains_its_backbone_gets_images_again() -> None:
    data = make_data()
    make_trainer().test(make_learner(), datamodule=data, verbose=False)
    trained = ProtoNet(TwoBlocks(running_stats=True))
    before = state_of(trained)
    make_trainer().fit(trained, datamodule=data)
    assert largest_difference(state_of(trained), before) > 0


def test_damaged_features_are_computed_anew(cache: Path) -> None:
    learner = make_learner()
    expected = make_trainer().test(learner, datamodule=make_data(), verbose=False)
    (entry,) = cache.glob("*-features-*.bank")
    (entry / "images.npy").write_bytes((entry / "images.npy").read_bytes()[:-1] + b"x")
    assert make_trainer().test(learner, datamodule=make_data(), verbose=False) == expected
    assert Counting.embedded == 2 * IMAGES_OF_A_SPLIT


def key_of(learner: Learner) -> str:
    embedding = frozen_embedding(learner.backbone)
    assert embedding is not None
    return embedding.key()


def test_another_precision_of_products_has_features_of_its_own() -> None:
    learner, keys = make_learner(), set()
    for precision in get_args(MatmulPrecision):
        set_matmul_precision(precision)
        try:
            keys.add(key_of(learner))
        finally:
            set_matmul_precision("highest")
    assert len(keys) == 3
    keys.add(key_of(learner))
    assert len(keys) == 3


@pytest.mark.parametrize("name", ["device", "precision", "products", "torch"])
def test_all_that_features_depend_on_is_in_their_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = make_learner()
    assert learner.backbone is not None
    before, used = key_of(learner), computed_with(learner.backbone)
    assert used[name]
    monkeypatch.setattr("modules.backbones.frozen_features.computed_with", lambda backbone: used | {name: "another"})
    assert key_of(learner) != before


def test_a_backbone_on_a_gpu_has_features_of_its_own() -> None:
    learner = make_learner()
    assert learner.backbone is not None
    on_cpu = computed_with(learner.backbone)
    with FakeTensorMode(), torch.device("cuda"):  # a GPU that is not there
        on_gpu = computed_with(Counting(running_stats=True))
    assert on_cpu["device"] == "cpu"
    assert on_gpu["device"] == "cuda"
