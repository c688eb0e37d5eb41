"""Groups of labelled examples: every image once an epoch, a pure function of the group's number."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from datamodules import Augmentation
from datamodules.settings import Loading
from datamodules.tasks.examples import ExampleOrder
from tests.learnable_images import IMAGES_EACH, N_CLASSES, LearnableImages, make_data

N_TRAIN = N_CLASSES // 3 * IMAGES_EACH  # 120 images


def example_data(group_size: int = 16, stage: str = "fit", **changes: object) -> LearnableImages:
    data = make_data(**changes)
    data.use_examples(group_size)
    data.setup(stage)
    return data


@pytest.mark.parametrize("group_size", [1, 7, 16, 120, 300])
def test_every_example_comes_once_in_each_epoch(group_size: int) -> None:
    n_groups = 3 * N_TRAIN // group_size + 1
    drawn = ExampleOrder(3, N_TRAIN).groups(torch.arange(n_groups), group_size).flatten()
    epochs = drawn[: 2 * N_TRAIN].view(-1, N_TRAIN)
    assert torch.equal(epochs.sort(1).values, torch.arange(N_TRAIN).expand(2, -1))
    assert not torch.equal(epochs[0], epochs[1])


def test_a_group_does_not_depend_on_those_drawn_with_it_or_before() -> None:
    together = ExampleOrder(3, N_TRAIN).groups(torch.arange(50), 16)
    order = ExampleOrder(3, N_TRAIN)
    for group in (49, 7, 8, 0, 31):
        assert torch.equal(order.groups(torch.tensor([group]), 16)[0], together[group])
    assert not torch.equal(ExampleOrder(4, N_TRAIN).groups(torch.arange(50), 16), together)


def label_of(data: LearnableImages, image: Tensor) -> int:
    """The class of the training split that holds an image."""
    assert data.bank is not None
    number = int((data.bank.images.flatten(1) == (image * 255).round().flatten()).all(1).nonzero()[0])
    return data.split_classes(data.bank)["train"].index(number // IMAGES_EACH)


def test_a_group_is_an_episode_without_support_whose_labels_count_all_training_classes() -> None:
    data = example_data(16)
    episode = data.episode("train", torch.arange(5))
    assert episode.task.x.shape == (5, 0, 1, 8, 8)
    assert episode.task.y.shape == (5, 0)
    assert episode.query_x.shape == (5, 16, 1, 8, 8)
    assert episode.task.classes.tolist() == [list(range(0, 30, 3))] * 5
    assert data.n_train_classes == episode.task.n_way == 10
    for image, label in zip(episode.query_x.flatten(0, 1), episode.query_y.flatten().tolist(), strict=True):
        assert label_of(data, image) == label


def test_evaluation_still_draws_tasks_and_the_protocol_says_what_training_saw() -> None:
    data = example_data(16)
    plain = make_data()
    plain.setup("fit")
    for split in ("val", "test"):
        ours, theirs = data.episode(split, torch.arange(3)), plain.episode(split, torch.arange(3))
        assert all(torch.equal(a, b) for a, b in zip(ours.tensors(), theirs.tensors(), strict=True))
    assert data.protocol()["trained_on"] == "labelled examples"
    assert data.protocol()["group_size"] == 16
    data.use_examples(None)
    assert data.episode("train", torch.arange(3)).task.x.shape[1] == 6


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("images_on", ["device", "cpu"])
def test_loaders_emit_the_same_groups_wherever_images_are_looked_up(images_on: str, num_workers: int) -> None:
    data = example_data(16, loading=Loading(images_on=images_on, num_workers=num_workers))  # type: ignore[arg-type]
    reference = example_data(16)
    assert data.source is not None
    episode = data.source.examples(torch.arange(4), 16)
    assert torch.equal(data.normalise(episode.query_x), reference.episode("train", torch.arange(4)).query_x)
    assert torch.equal(episode.query_y, reference.episode("train", torch.arange(4)).query_y)


@pytest.mark.parametrize("per", ["image", "class", "task"])
def test_examples_are_augmented(per: str) -> None:
    from datamodules.images.augmentation import augmented

    augmentation = Augmentation(flip=True, rotation=20, per=per)  # type: ignore[arg-type]
    episode = example_data(32).episode("train", torch.arange(3))
    changed = augmented(episode, 5, augmentation)
    assert changed.query_x.shape == episode.query_x.shape
    assert not torch.equal(changed.query_x, episode.query_x)
    alone = augmented(episode.tasks(1, 2), 5, augmentation)
    torch.testing.assert_close(alone.query_x[0], changed.query_x[1])


def test_features_of_a_frozen_backbone_stand_in_for_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datamodules.images.features import load_features
    from modules.backbones.frozen_features import frozen_embedding
    from tests.learnable_images import TwoBlocks

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    backbone = TwoBlocks(running_stats=True)
    backbone.freeze()
    data = example_data(16)
    embedding = frozen_embedding(backbone)
    assert data.source is not None
    assert data.bank is not None
    assert embedding is not None
    features = load_features(data.bank, data.pools["train"], "LearnableImages train", embedding, data.normalise)
    data.source.use_features("train", features)
    images = data.normalise(data.source.examples(torch.arange(3), 16).query_x)  # (3, 16, 1, 8, 8)
    found = data.source.examples(torch.arange(3), 16, in_features=True)
    torch.testing.assert_close(found.query_x, backbone(images.flatten(0, 1)).view(3, 16, -1))
    assert found.task.x.shape == (3, 0, backbone.feature_dim)
