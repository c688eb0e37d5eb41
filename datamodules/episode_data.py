"""The base of every data set: streams of tasks by their numbers, on the device."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.episode import Episode
from datamodules.objective import CLASSIFICATION, Objective
from datamodules.settings import Evaluation
from datamodules.tasks.epoch_length import epoch_length
from datamodules.tasks.sampling import DRAWS, EpisodeShape
from datamodules.tasks.task_sizes import Count, TaskSizes, evaluated_size
from datamodules.tasks.task_stream import StreamPosition, TaskStream


class EpisodeDataModule(pl.LightningDataModule):
    """Emits episodes, each task a pure function of its number; a data set says how they are drawn.

    Args:
        n_way: Classes in a training task; two numbers, as in [5, 20]: drawn anew for every batch.
        k_shot: Support examples of each class in a training task; two numbers: drawn anew for every batch.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices, whose number must divide it; for a learner that
            trains on labelled examples, groups of these.
        evaluation: Validation and test tasks.
        seed: Seed of the training tasks.
    """

    objective: Objective = CLASSIFICATION
    draws: int = DRAWS  # the number of the drawing, which checkpoints and results carry
    batches_per_epoch: int = 100  # where the Trainer counts in epochs and its limit_train_batches is no number of them
    stage: str = "fit"  # the command that the data are for; set before they are read
    has_examples = False  # whether training can emit groups of labelled examples
    group_size: int | None = None  # examples of a group, where training emits these; None: it emits tasks
    num_workers: int = 0  # of loaders
    pin_memory: bool = False

    def __init__(
        self,
        n_way: Count = 5,
        k_shot: Count = 1,
        n_query: int = 1,
        meta_batch_size: int = 32,
        evaluation: Evaluation = Evaluation(),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.train_sizes = TaskSizes.of(n_way, k_shot, n_query)
        held_out = EpisodeShape(
            evaluated_size("n_way", evaluation.n_way, n_way),
            evaluated_size("k_shot", evaluation.k_shot, k_shot),
            n_query if evaluation.n_query is None else evaluation.n_query,
        )
        counts = {"meta_batch_size": meta_batch_size}
        counts |= {f"evaluation.{n}": getattr(evaluation, n) for n in ("n_val_tasks", "n_test_tasks", "batch_size")}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        # of each split's tasks; of those of training the largest
        self.shapes = {"train": self.train_sizes.largest, "val": held_out, "test": held_out}
        if self.objective is CLASSIFICATION:
            _check_several_classes({"n_way": self.train_sizes.n_way[0], "evaluation.n_way": held_out.n_way})
        self.meta_batch_size, self.evaluation, self.seed = meta_batch_size, evaluation, seed
        self.stream = StreamPosition(0, 0, meta_batch_size)
        self._tasks_drawn: int | None = None  # before the training that is about to begin, as its checkpoint says

    # ---- what a data set implements

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example, as a network takes it."""
        raise NotImplementedError

    def draw(self, split: str, task_id: Tensor) -> Episode:
        """The tasks of these numbers (T,) of "train", "val" or "test", on the device of `task_id`."""
        raise NotImplementedError

    def input_spec(self) -> dict[str, Any]:
        """Returns what a network's input is; the checkpoint carries it."""
        return {"input_shape": list(self.input_shape)}

    def adopt(self, input_spec: dict[str, Any]) -> None:
        """Takes what the checkpoint's learner expects of an input; a data set of its own inputs knows that itself."""

    def identity(self) -> str:
        """Says what the data are: the same wherever they lie and however they are loaded; "" where nothing but the
        configuration says it.
        """
        return ""

    def trained_classes(self) -> list[str]:
        """The names of the classes that training shows, which no result may be measured on; none without classes."""
        return []

    def trained_images(self) -> Tensor:
        """(M,) int64: the digests of the images that training shows, sorted, each once; empty without images."""
        return torch.empty(0, dtype=torch.int64)

    def check_unseen(self, trained: list[str], splits: Iterable[str], images: Tensor | None = None) -> None:
        """Checks that nothing of some splits was trained on, as where folders were added, renamed or split anew since.

        Args:
            trained: What `trained_classes` gave then.
            splits: Those that are to be scored.
            images: (M,) int64: what `trained_images` gave then.

        Raises:
            ValueError: If they were, unless evaluation.leaks is "warn".
        """

    def use_examples(self, group_size: int | None) -> None:
        """Makes training emit groups of this many labelled examples in place of tasks; None: tasks again.

        A group is an Episode of an empty support set, whose queries are the examples and whose labels count all
        training classes. `meta_batch_size` is then the groups of a batch.
        """
        self.group_size = group_size

    @property
    def n_train_classes(self) -> int:
        """The number of classes that training shows; known after `setup`."""
        raise NotImplementedError

    # ---- Lightning's hooks

    def setup(self, stage: str) -> None:
        """Checks that a batch divides over the ranks.

        Raises:
            ValueError: If it does not.
        """
        self.stage = stage
        world_size = self._world_size
        if self.meta_batch_size % world_size:
            raise ValueError(
                f"meta_batch_size = {self.meta_batch_size} does not divide over {world_size} processes: "
                f"make it a multiple of {world_size}."
            )

    def train_dataloader(self) -> DataLoader[Any]:
        """A stream from the first task that this run has not trained on yet; endless, or as long as an epoch."""
        self._begin_stream()
        loader = self._loader("train", self.meta_batch_size, n_tasks=None, first_task=self._tasks_trained)
        assert isinstance(loader.dataset, TaskStream)
        loader.dataset.n_batches = epoch_length(self.trainer, self.batches_per_epoch)
        return loader

    def batches_of_epoch(self) -> int | None:
        """The batches that the Trainer takes of an epoch; None: nothing ends one."""
        length = epoch_length(self.trainer, self.batches_per_epoch)
        share = getattr(self.trainer, "limit_train_batches", 1.0)
        return int(length * share) if length is not None and isinstance(share, float) else length

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation tasks."""
        return self._loader("val", self.evaluation.batch_size * self._world_size, self.evaluation.n_val_tasks)

    def test_dataloader(self) -> DataLoader[Any]:
        """The test tasks."""
        return self._loader("test", self.evaluation.batch_size * self._world_size, self.evaluation.n_test_tasks)

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test tasks."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Episode:
        """Makes the Episode from task numbers."""
        return self._converted(self.draw(self._split(), batch))

    # ---- episodes

    def episode(self, split: str, task_id: Tensor) -> Episode:
        """The tasks of these numbers, for looking at, replaying or testing; they are never augmented.

        Args:
            split: "train", "val" or "test".
            task_id: (T,) int64.

        Returns:
            The Episode, on the device of `task_id`.
        """
        return self._converted(self.draw(split, task_id))

    def shape_of(self, split: str, task_id: Tensor) -> EpisodeShape:
        """The size of tasks (T,) of one batch, whose number is that of its first task over the batch size.

        Raises:
            ValueError: If training tasks are of several batches, whose sizes differ.
        """
        if split != "train" or not self.train_sizes.vary:
            return self.shapes[split]
        shift = self.stream.first_task % self.meta_batch_size  # of a stream that goes on from another batch size
        batches = ((task_id - shift) // self.meta_batch_size).unique().tolist()
        if len(batches) != 1:
            raise ValueError(
                f"training tasks of different batches have different sizes: ask for those of one, got {len(batches)} "
                f"batches of {self.meta_batch_size}."
            )
        return self.train_sizes.of_batch(self.seed, batches[0])

    def seed_of(self, split: str) -> int:
        """The seed of a split's tasks: validation and test are the same for every training seed."""
        return self.seed if split == "train" else self.evaluation.seed

    def protocol(self) -> dict[str, Any]:
        """The task that is evaluated, as a result must state it."""
        train, held_out = self.train_sizes.describe(), asdict(self.shapes["test"])
        differs = {f"train_{name}": value for name, value in train.items() if value != held_out[name]}
        if self.group_size is not None:
            differs = {"trained_on": "labelled examples", "group_size": self.group_size}
        return {"data": type(self).__name__, **held_out, **differs}

    def _converted(self, episode: Episode) -> Episode:
        """Inputs in the Trainer's precision ("64-true", "bf16-true"): of task numbers it had none to convert."""
        if self.trainer is None:
            return episode
        return episode.map_inputs(self.trainer.precision_plugin.convert_input)

    def _split(self) -> str:
        assert self.trainer is not None
        if self.trainer.training:
            return "train"
        return "val" if self.trainer.validating or self.trainer.sanity_checking else "test"

    def _tasks_trained(self) -> int:
        """How many tasks the run has trained on: after a resume, or in a further epoch, the stream goes on there."""
        if self.trainer is None or getattr(self.trainer, "overfit_batches", False):
            return 0
        return self.stream.task_of(self._batches_trained)

    @property
    def _batches_trained(self) -> int:
        # "processed" and not "ready": a batch that an interruption broke off is still to be trained on.
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total if self.trainer else None
        return total.processed if self.trainer else 0

    def _begin_stream(self) -> None:
        """Lets the stream begin where the Trainer does: at its first task, or after the tasks that were drawn before.

        Counted in tasks: the batches before may have been of another size.
        """
        if self._tasks_drawn is not None:
            self.stream = StreamPosition(self._batches_trained, self._tasks_drawn, self.meta_batch_size)
        elif self._batches_trained == 0:
            self.stream = StreamPosition(0, 0, self.meta_batch_size)
        self._tasks_drawn = None

    def state_dict(self) -> dict[str, Any]:
        """Tells how many training tasks the outer steps so far have taken; Lightning keeps it in checkpoints."""
        # those of an outer step that is not complete are drawn again
        begun = getattr(getattr(self.trainer, "lightning_module", None), "begun_batches", 0)
        return {"tasks_drawn": self.stream.task_of(self._batches_trained - begun)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes training go on after the tasks that were drawn, in batches of today's size."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self._tasks_drawn = state_dict["tasks_drawn"]

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _gatherer(self, split: str) -> Callable[[Tensor], Episode] | None:
        """Returns what makes a split's episodes in the loader; None: the device does, from task numbers."""
        return None

    def _loader(
        self, split: str, batch_size: int, n_tasks: int | None, first_task: int | Callable[[], int] = 0
    ) -> DataLoader[Any]:
        rank = self.trainer.global_rank if self.trainer else 0
        stream = TaskStream(batch_size, first_task, n_tasks, rank, self._world_size, self._gatherer(split))
        return DataLoader(stream, batch_size=None, num_workers=self.num_workers, pin_memory=self.pin_memory)


def _check_several_classes(n_way: dict[str, int]) -> None:
    """Refuses tasks whose every answer is correct.

    Args:
        n_way: The fewest classes of a task, by the name of the argument that says it.

    Raises:
        ValueError: If one has fewer than two.
    """
    for name, value in n_way.items():
        if value < 2:
            raise ValueError(f"{name} must be at least 2, got {value}: with one class every answer is correct.")
