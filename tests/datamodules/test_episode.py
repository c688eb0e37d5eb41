"""Episode and Task: every tensor of them is changed, sliced, collated and moved, nested as they are."""

import warnings
from collections.abc import Callable

import pytest
import torch
from pytorch_lightning.utilities import move_data_to_device
from pytorch_lightning.utilities.data import extract_batch_size
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from datamodules.episode import Episode, Task, no_noise
from tests.datamodules.numbered_images import assert_same

N_TASKS, N_WAY = 7, 3
META = torch.device("meta")


def make_episode(n_support: int = 6, with_extra: bool = False) -> Episode:
    """Seven tasks of three classes, no two tensors of which hold the same numbers."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(N_WAY, (N_TASKS, n_support), generator=generator)
    classes = torch.randint(100, (N_TASKS, N_WAY), generator=generator)
    task = Task.of(torch.rand(N_TASKS, n_support, 1, 4, 4, generator=generator), labels, classes)
    if with_extra:
        numbers = torch.arange(N_TASKS)
        task = task._replace(extra={"adjacency": torch.rand(N_TASKS, 2, 2, generator=generator), "mass": numbers / 2})
    query_x = torch.rand(N_TASKS, 5, 1, 4, 4, generator=generator)
    query_y = torch.randint(N_WAY, (N_TASKS, 5), generator=generator)
    return Episode(task, query_x, query_y, torch.arange(N_TASKS) + 40)


EPISODES: dict[str, Callable[[], Episode]] = {
    "plain": make_episode,
    "with extra": lambda: make_episode(with_extra=True),
    "nothing shown": lambda: make_episode(n_support=0, with_extra=True),
}


@pytest.fixture(params=EPISODES)
def episode(request: pytest.FixtureRequest) -> Episode:
    return EPISODES[request.param]()


def all_fields(episode: Episode) -> list[Tensor]:
    """By their names, so that none can be forgotten."""
    task = episode.task
    shown = [task.x, task.y, task.classes, task.noise, *task.extra.values()]
    return [*shown, episode.query_x, episode.query_y, episode.task_id]


def test_a_task_of_a_number_of_ways_has_classes_and_no_noise() -> None:
    task = Task.of(torch.rand(4, 6, 2), torch.zeros(4, 6, dtype=torch.int64), N_WAY)
    assert task.n_way == N_WAY
    assert task.classes.tolist() == [[0, 1, 2]] * 4
    assert task.classes.dtype == torch.int64
    assert (task.noise.shape, task.extra) == ((4, 0), {})


def test_a_task_of_given_classes_keeps_them() -> None:
    classes = torch.tensor([[8, 3], [5, 9]])
    task = Task.of(torch.rand(2, 2, 2), torch.tensor([[0, 1], [1, 0]]), classes)
    assert task.classes is classes
    assert task.n_way == 2


def test_a_task_is_made_where_its_images_are() -> None:
    task = Task.of(torch.empty(4, 6, 2, device=META), torch.empty(4, 6, device=META), N_WAY)
    assert {values.device for values in (task.x, task.y, task.classes, task.noise)} == {META}
    assert no_noise(3).shape == (3, 0)
    assert no_noise(3, META).device == META


def test_two_tasks_do_not_share_their_extra() -> None:
    one, other = make_episode().task, make_episode().task
    one.extra["mass"] = torch.zeros(N_TASKS)
    assert other.extra == {}


def test_its_tensors_are_all_there_are_in_one_order(episode: Episode) -> None:
    listed, named = episode.tensors(), all_fields(episode)
    assert len(listed) == len(named)
    assert all(mine is theirs for mine, theirs in zip(listed, named, strict=True))


def test_map_changes_every_tensor_and_keeps_the_names(episode: Episode) -> None:
    before = [values.clone() for values in all_fields(episode)]
    mapped = episode.map(lambda values: values + 1)
    assert isinstance(mapped, Episode)
    assert isinstance(mapped.task, Task)
    assert mapped.task.extra.keys() == episode.task.extra.keys()
    for after, old, kept in zip(all_fields(mapped), before, all_fields(episode), strict=True):
        assert torch.equal(after, old + 1)
        assert torch.equal(kept, old)


def test_map_inputs_changes_images_and_nothing_else(episode: Episode) -> None:
    mapped = episode.map_inputs(lambda x: x.double() * 2)
    assert torch.equal(mapped.task.x, episode.task.x.double() * 2)
    assert torch.equal(mapped.query_x, episode.query_x.double() * 2)
    changed = [a is not b for a, b in zip(mapped.tensors(), episode.tensors(), strict=True)]
    assert sum(changed) == 2
    restored = mapped.map_inputs(lambda x: (x / 2).float())
    assert_same(restored, episode)


def test_with_noise_replaces_the_noise_alone(episode: Episode) -> None:
    noise = torch.rand(N_TASKS, 4, 2)
    changed = episode.with_noise(noise)
    assert changed.task.noise is noise
    assert episode.task.noise.shape == (N_TASKS, 0)
    assert_same(changed.with_noise(episode.task.noise), episode)


@pytest.mark.parametrize(("start", "stop", "n"), [(0, 7, 7), (2, 5, 3), (5, 99, 2), (3, 3, 0)])
def test_tasks_slices_every_tensor(episode: Episode, start: int, stop: int, n: int) -> None:
    episode = episode.with_noise(torch.rand(N_TASKS, 4))
    part = episode.tasks(start, stop)
    assert isinstance(part.task, Task)
    assert part.task.extra.keys() == episode.task.extra.keys()
    for mine, whole in zip(all_fields(part), all_fields(episode), strict=True):
        assert len(mine) == n
        assert torch.equal(mine, whole[start:stop])


def test_single_tasks_collate_to_a_batch_of_them(episode: Episode) -> None:
    episode = episode.with_noise(torch.rand(N_TASKS, 4))
    singles = [episode.map(lambda values, i=i: values[i]) for i in range(N_TASKS)]  # type: ignore[misc]
    assert_same(default_collate(singles), episode)
    (loaded,) = DataLoader(singles, batch_size=N_TASKS)  # type: ignore[arg-type]
    assert_same(loaded, episode)


def test_lightning_moves_every_tensor(episode: Episode) -> None:
    moved = move_data_to_device(episode, META)
    assert isinstance(moved, Episode)
    assert isinstance(moved.task, Task)
    for there, here in zip(all_fields(moved), all_fields(episode), strict=True):
        assert (there.device, there.shape, there.dtype) == (META, here.shape, here.dtype)
    assert_same(move_data_to_device(episode, torch.device("cpu")), episode)


def test_lightning_counts_its_tasks(episode: Episode) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Lightning warns where the sizes of a batch's tensors differ
        assert extract_batch_size(episode) == N_TASKS
        assert extract_batch_size(episode.with_noise(torch.rand(N_TASKS, 4))) == N_TASKS
        assert extract_batch_size(episode.tasks(2, 5)) == 3


def test_nothing_shown_is_a_support_set_of_no_examples() -> None:
    episode = make_episode(n_support=0)
    assert episode.task.x.shape == (N_TASKS, 0, 1, 4, 4)
    assert episode.task.y.shape == (N_TASKS, 0)
    assert episode.task.n_way == N_WAY
    assert episode.tasks(0, 2).task.x.shape == (2, 0, 1, 4, 4)
    assert episode.map_inputs(torch.Tensor.double).task.x.shape == (N_TASKS, 0, 1, 4, 4)
