"""Images that are not on the training device stay where they are, whoever asks for tasks on that device."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from datamodules.episode import Episode
from datamodules.images.features import SplitFeatures
from datamodules.settings import Loading
from tests.datamodules.numbered_images import NumberedImages, assert_same, make_data

GPU = torch.device("cuda", 0)


def gpu_tensors() -> FakeTensorMode:
    """Inside it tensors can be on a GPU that is not there: they have a device and a shape, and no values."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def first_task() -> torch.Tensor:
    return torch.zeros(1, dtype=torch.int64, device=GPU)


def of_images_on_the_cpu() -> NumberedImages:
    return make_data(loading=Loading(images_on="cpu", num_workers=1))


def devices(episode: Episode) -> set[torch.device]:
    return {values.device for values in episode.tensors()}


def on_the_cpu(data: NumberedImages) -> bool:
    """Whether all that a loader's worker reads lies there."""
    assert data.source is not None
    tensors = [
        value for pool in data.source.pools.values() for value in vars(pool).values() if isinstance(value, torch.Tensor)
    ]
    tensors += [v for features in data.source._features.values() for v in (features.values, features.place)]
    copy = data.source._on_device
    return all(t.device.type == "cpu" for t in tensors) and (copy is None or copy.device.type == "cpu")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_tasks_asked_for_on_a_gpu_are_drawn_where_the_images_lie(split: str) -> None:
    data = of_images_on_the_cpu()
    with gpu_tensors():
        assert devices(data.episode(split, first_task())) == {GPU}
    assert on_the_cpu(data)


def test_features_stay_with_the_images() -> None:
    data = of_images_on_the_cpu()
    assert data.source is not None
    assert data.bank is not None
    n_images = len(data.bank.images)
    data.source.use_features("val", SplitFeatures(torch.zeros(n_images, 4), torch.arange(n_images)))
    with gpu_tensors():
        episode = data.source.episode("val", first_task(), data.shapes["val"], in_features=True)
        assert devices(episode) == {GPU}
    assert on_the_cpu(data)


def test_images_that_follow_the_device_are_copied_there_once() -> None:
    data = make_data(loading=Loading(images_on="device"))
    assert data.source is not None
    with gpu_tensors():
        assert devices(data.episode("val", first_task())) == {GPU}
        copy = data.source._on_device
        assert copy is not None
        assert copy.device == GPU
        data.episode("val", first_task())
    assert data.source._on_device is copy


def test_a_worker_forked_after_a_picture_draws_the_same_tasks() -> None:
    data, looked_at = of_images_on_the_cpu(), of_images_on_the_cpu()
    looked_at.episode("val", torch.zeros(1, dtype=torch.int64))
    for mine, theirs in zip(looked_at.val_dataloader(), data.val_dataloader(), strict=True):
        assert_same(mine, theirs)


def test_where_images_are_is_decided_for_every_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may fit the first one's device, and not the second one's."""
    data = make_data(loading=Loading(images_on="auto"))
    assert data._gatherer("train") is None
    monkeypatch.setattr(data, "_fits_device", lambda images: False)
    data.setup("fit")
    assert data._gatherer("train") is not None
    assert data.source is not None
    assert not data.source.follows_device
