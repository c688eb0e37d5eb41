"""The data module's episodes: what they hold, and that nothing but (seed, split, number) decides it."""

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins import Precision
from pytorch_lightning.utilities import move_data_to_device
from pytorch_lightning.utilities.data import extract_batch_size
from torch.utils.data import default_collate

from datamodules.episode import Episode
from datamodules.images.bank import ImageBank
from datamodules.settings import Evaluation, Loading
from tests.datamodules.numbered_images import (
    SIZES,
    SPLIT_CLASSES,
    NumberedImages,
    assert_same,
    concatenated,
    image_number,
    make_data,
)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


class GroupedImages(NumberedImages):
    def split_groups(self, bank: ImageBank) -> dict[str, list[list[int]]]:
        return {split: [classes[:3], classes[3:]] for split, classes in SPLIT_CLASSES.items()} | {
            "val": [[0, 2, 22, 23]]
        }


def stand_in_trainer(stage: str, rank: int = 0, world_size: int = 1, batches_seen: int = 0) -> Any:
    """What a data module reads of its Trainer."""
    seen = SimpleNamespace(batch_progress=SimpleNamespace(total=SimpleNamespace(processed=batches_seen)))
    return SimpleNamespace(
        world_size=world_size,
        global_rank=rank,
        overfit_batches=0.0,
        fit_loop=SimpleNamespace(epoch_loop=seen),
        training=stage == "train",
        validating=stage == "val",
        sanity_checking=False,
        precision_plugin=Precision(),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def loaded(
    split: str, n_batches: int, rank: int = 0, world_size: int = 1, start: int = 0, **changes: Any
) -> list[Episode]:
    """The first episodes that one rank's loop gets from its loader."""
    data = make_data(**changes)
    data.trainer = stand_in_trainer(split, rank, world_size, start)
    loader = getattr(data, f"{split}_dataloader")()
    batches = [batch for batch, _ in zip(loader, range(n_batches), strict=False)]
    return [data.on_after_batch_transfer(batch, 0) for batch in batches]


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_images_and_labels_are_the_banks(split: str) -> None:
    data = make_data()
    episode = data.episode(split, torch.arange(300))
    start, size = torch.tensor(SIZES).cumsum(0) - torch.tensor(SIZES), torch.tensor(SIZES)
    assert data.bank is not None
    for x, y in [(episode.task.x, episode.task.y), (episode.query_x, episode.query_y)]:
        number, of_class = image_number(x), episode.task.classes.gather(1, y)  # (300, n) each
        assert bool(((number >= start[of_class]) & (number < start[of_class] + size[of_class])).all())
        assert torch.equal((x * 255).round().byte(), data.bank.images[number])
    number = torch.cat([image_number(episode.task.x), image_number(episode.query_x)], dim=1).sort(1).values
    assert bool((number[:, 1:] > number[:, :-1]).all())
    assert sorted(episode.task.classes.unique().tolist()) == sorted(SPLIT_CLASSES[split])


def test_labels_are_balanced_and_the_shape_is_as_asked() -> None:
    data = make_data()
    for split, n_way, n_query in [("train", 3, 1), ("val", 4, 3), ("test", 4, 3)]:
        episode = data.episode(split, torch.arange(20))
        assert episode.task.x.shape == (20, n_way * 2, 1, 2, 2)
        assert episode.query_x.shape == (20, n_way * n_query, 1, 2, 2)
        for label in range(n_way):
            assert bool(((episode.task.y == label).sum(1) == 2).all())
            assert bool(((episode.query_y == label).sum(1) == n_query).all())
        assert episode.task.y.dtype == episode.query_y.dtype == episode.task.classes.dtype == torch.int64
        assert all(values.is_contiguous() for values in episode.tensors())  # else it could not be pinned
        assert not any(values.is_inference() for values in episode.tensors())  # else autograd could not save it
        assert torch.equal(episode.task_id, torch.arange(20))


def test_normalised_images_span_zero_to_one() -> None:
    data = make_data()
    scaled = data.normalise(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert scaled.dtype == torch.float32
    assert scaled.tolist() == pytest.approx([0.0, 0.2, 1.0], abs=1e-7)
    before = data.build_bank().images
    episode = data.episode("train", torch.arange(50))
    assert float(episode.task.x.max()) == 1
    assert float(episode.task.x.min()) >= 0
    assert data.bank is not None
    assert torch.equal(data.bank.images, before)


def test_groups_reach_the_tasks() -> None:
    data = GroupedImages(n_way=3)
    data.setup("fit")
    groups = {frozenset(row) for row in data.episode("train", torch.arange(200)).task.classes.tolist()}
    assert frozenset(SPLIT_CLASSES["train"][:3]) in groups
    assert all(min(group) > 5 for group in groups if group != frozenset(SPLIT_CLASSES["train"][:3]))


@pytest.mark.parametrize(
    ("images_on", "num_workers"), [("device", 0), ("device", 1), ("cpu", 0), ("cpu", 1), ("cpu", 3), ("auto", 0)]
)
@pytest.mark.parametrize("start", [0, 3])
def test_train_tasks_do_not_depend_on_how_they_are_loaded(images_on: Any, num_workers: int, start: int) -> None:
    episodes = loaded("train", 4, start=start, loading=Loading(images_on, num_workers))
    expected = make_data().episode("train", torch.arange(8 * start, 8 * (start + 4)))
    assert [len(episode.task_id) for episode in episodes] == [8] * 4
    assert_same(concatenated(episodes), expected)


@pytest.mark.parametrize("images_on", ["device", "cpu"])
@pytest.mark.parametrize(("world_size", "meta_batch_size", "start"), [(1, 4, 5), (2, 8, 3), (4, 8, 0), (4, 12, 2)])
def test_ranks_share_the_train_batch(world_size: int, meta_batch_size: int, start: int, images_on: Any) -> None:
    changes = {"meta_batch_size": meta_batch_size, "loading": Loading(images_on)}
    ranks = [loaded("train", 2, rank, world_size, start, **changes) for rank in range(world_size)]
    episodes = [episode for batch in zip(*ranks, strict=True) for episode in batch]
    first = start * meta_batch_size
    assert_same(concatenated(episodes), make_data().episode("train", torch.arange(first, first + 2 * meta_batch_size)))


@pytest.mark.parametrize(("split", "n_tasks"), [("val", 13), ("test", 7)])
@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (1, 3), (2, 0), (4, 1)])
def test_every_evaluation_task_is_seen_once(split: str, n_tasks: int, world_size: int, num_workers: int) -> None:
    loading = Loading("cpu", num_workers)
    ranks = [loaded(split, 100, rank, world_size, loading=loading) for rank in range(world_size)]
    together = concatenated([episode for rank in ranks for episode in rank])
    order = together.task_id.argsort()
    assert_same(together.map(lambda values: values[order]), make_data().episode(split, torch.arange(n_tasks)))
    assert all(len(episode.task_id) <= 2 for rank in ranks for episode in rank)


def test_evaluation_tasks_do_not_depend_on_training() -> None:
    data, task_id = make_data(seed=1), torch.arange(13)
    other = make_data(seed=2, n_way=5, n_query=2, meta_batch_size=4)
    for split in ("val", "test"):
        assert_same(data.episode(split, task_id), other.episode(split, task_id))
    reseeded = make_data(seed=1, evaluation=Evaluation(n_way=4, n_query=3, seed=1))
    assert not torch.equal(data.episode("test", task_id).task.classes, reseeded.episode("test", task_id).task.classes)
    assert_same(data.episode("train", task_id), reseeded.episode("train", task_id))


@pytest.mark.parametrize("split", ["val", "test"])
def test_learners_with_other_numbers_of_queries_are_asked_about_the_same_support(split: str) -> None:
    task_id = torch.arange(13)
    few, many = (make_data(evaluation=Evaluation(n_way=4, n_query=n)).episode(split, task_id) for n in (1, 3))
    assert_same(few._replace(query_x=many.query_x, query_y=many.query_y), many)
    by_class = many.query_x.unflatten(1, (4, 3))  # (T, n_way, n_query, C, H, W)
    assert torch.equal(few.query_x, by_class[:, :, 0])
    assert torch.equal(few.query_y, many.query_y.unflatten(1, (4, 3))[:, :, 0])


def test_train_tasks_depend_on_the_seed() -> None:
    task_id = torch.arange(500)
    one, other = (make_data(seed=seed).episode("train", task_id) for seed in (1, 2))
    same = (one.task.classes == other.task.classes).all(1).float().mean()
    assert float(same) < 0.01  # by chance 1 in 12 * 11 * 10


def test_making_an_episode_never_waits_for_the_device() -> None:
    # A meta tensor has no values: whatever reads one on the host, or mixes in a tensor made there, raises.
    episode = make_data().episode("train", torch.arange(50, device="meta"))
    assert {values.device.type for values in episode.tensors()} == {"meta"}
    assert episode.task.x.shape == (50, 6, 1, 2, 2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_episodes_do_not_depend_on_the_device() -> None:
    data = make_data()
    for split in ("train", "val"):
        there = data.episode(split, torch.arange(50, device="cuda"))
        assert there.task.x.is_cuda
        assert_same(move_data_to_device(there, torch.device("cpu")), data.episode(split, torch.arange(50)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_an_episode_is_pinned() -> None:
    (episode,) = loaded("train", 1, loading=Loading("cpu"))
    pinned = torch.utils.data._utils.pin_memory.pin_memory(episode)
    assert isinstance(pinned, Episode)
    assert all(values.is_pinned() for values in pinned.tensors() if values.numel())  # no noise: no memory


def test_an_episode_is_a_batch_of_tasks_to_lightning() -> None:
    episode = make_data().episode("train", torch.arange(7))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract_batch_size(episode) == 7
    moved = move_data_to_device(episode, torch.device("meta"))
    assert isinstance(moved, Episode)
    assert {values.device.type for values in moved.tensors()} == {"meta"}
    stacked = default_collate([episode, episode])
    assert isinstance(stacked, Episode)
    assert stacked.task.y.shape == (2, 7, 6)


def test_tasks_slices_every_field() -> None:
    data = make_data()
    episode = data.episode("train", torch.arange(10))
    assert_same(episode.tasks(2, 6), data.episode("train", torch.arange(2, 6)))
    assert_same(episode.tasks(8, 99), data.episode("train", torch.tensor([8, 9])))


@pytest.mark.parametrize("name", ["n_way", "k_shot", "n_query", "meta_batch_size"])
@pytest.mark.parametrize("value", [0, -2])
def test_counts_below_one_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        make_data(**{name: value})


@pytest.mark.parametrize("name", ["n_way", "k_shot", "n_query", "n_val_tasks", "n_test_tasks", "batch_size"])
def test_evaluation_counts_below_one_are_refused(name: str) -> None:
    changes: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        make_data(evaluation=Evaluation(**changes))


@pytest.mark.parametrize("changes", [{"n_way": 1}, {"n_way": [1, 3]}])
def test_one_way_tasks_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^n_way must be at least 2, got 1: with one class"):
        make_data(**changes)
    with pytest.raises(ValueError, match=r"^evaluation\.n_way must be at least 2, got 1"):
        make_data(evaluation=Evaluation(n_way=1))


def test_the_bank_is_built_once() -> None:
    class Counted(NumberedImages):
        built = 0

        def build_bank(self) -> ImageBank:
            self.built += 1
            return super().build_bank()

    data = Counted(n_way=3, evaluation=Evaluation(n_way=4))
    for _ in range(2):  # the application, then its Trainer
        data.prepare_data()
        data.setup("fit")
    assert data.built == 1


def test_a_split_that_cannot_make_its_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_way = 5 is more than the val split has classes \(4\)"):
        make_data(evaluation=Evaluation(n_way=5))
    with pytest.raises(ValueError, match=r"too few .*: 'class4' \(5\), 'class8' \(5\), 'class12' \(5\)"):
        make_data(k_shot=5, evaluation=Evaluation(n_way=4, k_shot=1))


def test_a_batch_that_does_not_divide_over_ranks_is_refused() -> None:
    data = NumberedImages(n_way=3, meta_batch_size=6)
    data.trainer = stand_in_trainer("train", world_size=4)
    with pytest.raises(ValueError, match="meta_batch_size = 6 does not divide over 4 processes"):
        data.setup("fit")
