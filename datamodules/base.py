"""The base of every data set: from an image bank and its class splits to streams of episodes on the device."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.augmentation import Augmentation, augmented
from datamodules.episode import CLASSIFICATION, Episode, Objective
from datamodules.episode_source import SPLITS, EpisodeSource
from datamodules.feature_bank import Embedding, load_features
from datamodules.image_bank import ImageBank
from datamodules.leaks import class_origins, leaks_between_splits, refusal, seen_in_training
from datamodules.pools import checked_pool
from datamodules.progress import say
from datamodules.sampling import ClassPool, EpisodeShape
from datamodules.settings import Evaluation, Loading
from datamodules.task_stream import TaskStream


class EpisodeDataModule(pl.LightningDataModule):
    """Emits episodes from a bank of images; a data set says which images there are and how the classes are split.

    Args:
        n_way: Classes in a training task.
        k_shot: Support examples of each class in a training task.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices; their number must divide it.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        augmentation: Random changes of the images of training tasks.
    """

    objective: Objective = CLASSIFICATION
    image_shape: tuple[int, int, int] = (1, 28, 28)  # (C, H, W)

    def __init__(
        self,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 1,
        meta_batch_size: int = 32,
        evaluation: Evaluation = Evaluation(),
        loading: Loading = Loading(),
        seed: int = 0,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        super().__init__()
        train = EpisodeShape(n_way, k_shot, n_query)
        held_out = EpisodeShape(
            n_way if evaluation.n_way is None else evaluation.n_way,
            k_shot if evaluation.k_shot is None else evaluation.k_shot,
            n_query if evaluation.n_query is None else evaluation.n_query,
        )
        counts = {"meta_batch_size": meta_batch_size}
        counts |= {f"evaluation.{n}": getattr(evaluation, n) for n in ("n_val_tasks", "n_test_tasks", "batch_size")}
        for name, value in counts.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        self.shapes = {"train": train, "val": held_out, "test": held_out}
        self.meta_batch_size, self.evaluation, self.loading, self.seed = meta_batch_size, evaluation, loading, seed
        self.augmentation = augmentation
        self.bank: ImageBank | None = None
        self.pools: dict[str, ClassPool] = {}
        self.leaks: list[str] = []
        self.source: EpisodeSource | None = None
        self._images_follow_device = True
        self._embedding: Embedding | None = None

    # ---- what a data set implements

    def build_bank(self) -> ImageBank:
        """The images of all splits, from the cache where they are there already."""
        raise NotImplementedError

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        """The bank's classes that belong to "train", "val" and "test"; disjoint."""
        raise NotImplementedError

    def split_groups(self, bank: ImageBank) -> dict[str, list[list[int]]] | None:
        """For each split, groups of classes such that a task's classes all come from one; None where there are none."""
        return None

    def normalise(self, images: Tensor) -> Tensor:
        """Scales images from uint8 (..., C, H, W) in [0, 255] to float32 in [0, 1]."""
        return images.to(torch.float32).div_(255)

    def input_spec(self) -> dict[str, Any]:
        """What a user's image must be turned into; the checkpoint carries it."""
        return {"image_shape": list(self.image_shape), "scaling": "uint8 / 255"}

    def adopt(self, input_spec: dict[str, Any]) -> None:
        """Takes what the checkpoint's learner expects of an image; a data set of its own images knows that itself."""

    def use_features(self, embedding: Embedding | None) -> None:
        """Makes later loaders emit the features of a frozen backbone in place of images; None: images again."""
        self._embedding = embedding if self.loading.cache_features else None

    def trained_classes(self) -> list[str]:
        """The names of the classes that training shows, a turned one under its own."""
        return class_origins(self.bank, self.pools["train"].class_id.tolist()) if self.bank is not None else []

    def check_unseen(self, trained: list[str], splits: Iterable[str]) -> None:
        """Checks that none of some splits' classes were trained on, as where folders were added since.

        Args:
            trained: What `trained_classes` gave then.
            splits: Those that are to be scored.

        Raises:
            ValueError: If they were, unless evaluation.leaks is "warn".
        """
        if self.bank is None:
            return
        for split in splits:
            own = class_origins(self.bank, self.pools[split].class_id.tolist())
            if seen := sorted(set(own) & set(trained)):
                found = seen_in_training(split, seen)
                if self.evaluation.leaks != "warn":
                    raise refusal([found])
                say(f"warning: {found}")

    # ---- Lightning's hooks

    def prepare_data(self) -> None:
        """Fills the cache, once on each machine."""
        if self.bank is None:  # every Trainer that is given this module asks again
            self.bank = self.build_bank()

    def setup(self, stage: str) -> None:
        """Loads the bank and checks that every split can make its tasks and that no two share a class or an image.

        Raises:
            ValueError: If a split has too few classes or a class too few images, two splits leak, or the batch does not
                divide over the ranks.
        """
        world_size = self._world_size
        if self.meta_batch_size % world_size:
            raise ValueError(
                f"meta_batch_size = {self.meta_batch_size} does not divide over {world_size} processes: "
                f"make it a multiple of {world_size}."
            )
        if self.pools:
            return
        bank = self.build_bank() if self.bank is None else self.bank
        groups = self.split_groups(bank) or {split: [classes] for split, classes in self.split_classes(bank).items()}
        pools = {split: checked_pool(bank, groups[split], self.shapes[split], split) for split in SPLITS}
        self.leaks = leaks_between_splits(bank, groups)
        if self.leaks and self.evaluation.leaks != "warn":
            raise refusal(self.leaks)
        if self.leaks and (self.trainer is None or self.trainer.is_global_zero):
            print(f"warning: the splits leak: {'; '.join(self.leaks)}", file=sys.stderr, flush=True)
        seeds = {split: self.seed if split == "train" else self.evaluation.seed for split in SPLITS}
        self.bank, self.pools, self.source = bank, pools, EpisodeSource(bank, pools, self.shapes, seeds)
        self._images_follow_device = self._fits_device(bank.images)

    def train_dataloader(self) -> DataLoader[Any]:
        """An endless stream, from the first batch that this run has not trained on yet."""
        return self._loader("train", self.meta_batch_size, n_tasks=None, first_batch=self._batches_trained)

    def val_dataloader(self) -> DataLoader[Any]:
        """The validation tasks."""
        return self._loader("val", self.evaluation.batch_size * self._world_size, self.evaluation.n_val_tasks)

    def test_dataloader(self) -> DataLoader[Any]:
        """The test tasks."""
        return self._loader("test", self.evaluation.batch_size * self._world_size, self.evaluation.n_test_tasks)

    def predict_dataloader(self) -> DataLoader[Any]:
        """The test tasks."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Tensor | Episode, dataloader_idx: int) -> Episode:
        """Makes the Episode: from task numbers where the images are on the device, else from the images gathered."""
        if isinstance(batch, Tensor):
            batch = self._draw(self._split(), batch, in_features=True)
        batch = self._normalised(batch)
        if self.augmentation.is_on and self._split() == "train":
            batch = augmented(batch, self.seed, self.augmentation)
        return self._converted(batch)

    # ---- episodes

    def episode(self, split: str, task_id: Tensor) -> Episode:
        """The tasks of these numbers, for looking at, replaying or testing; their images are never augmented.

        Args:
            split: "train", "val" or "test".
            task_id: (T,) int64.

        Returns:
            The Episode, on the device of `task_id`.
        """
        return self._converted(self._normalised(self._draw(split, task_id)))

    def protocol(self) -> dict[str, Any]:
        """The task that is evaluated, as a result must state it."""
        train, held_out = asdict(self.shapes["train"]), asdict(self.shapes["test"])
        differs = {f"train_{name}": value for name, value in train.items() if value != held_out[name]}
        differs |= {"train_augmentation": self.augmentation.describe()} if self.augmentation.is_on else {}
        leaks = {"leaks": "; ".join(self.leaks)} if self.leaks else {}
        return {"data": type(self).__name__, **held_out, **differs, **leaks}

    def _draw(self, split: str, task_id: Tensor, in_features: bool = False) -> Episode:
        """Task numbers (T,) to an Episode of uint8 images, or of features where there are some."""
        assert self.source is not None, "setup() comes first"
        return self.source.episode(split, task_id, in_features)

    def _converted(self, episode: Episode) -> Episode:
        """In the Trainer's precision ("64-true", "bf16-true"): of task numbers it had no image to convert."""
        return self.trainer.precision_plugin.convert_input(episode) if self.trainer else episode

    def _normalised(self, episode: Episode) -> Episode:
        if episode.support_x.is_floating_point():  # features
            return episode
        return episode._replace(support_x=self.normalise(episode.support_x), query_x=self.normalise(episode.query_x))

    def _fits_device(self, images: Tensor) -> bool:
        if self.loading.images_on != "auto":
            return self.loading.images_on == "device"
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(device)
        return images.numel() < free // 2

    def _split(self) -> str:
        assert self.trainer is not None
        if self.trainer.training:
            return "train"
        return "val" if self.trainer.validating or self.trainer.sanity_checking else "test"

    def _batches_trained(self) -> int:
        """How many batches the run has trained on: after a resume, or in a further epoch, the stream goes on there."""
        if self.trainer is None or getattr(self.trainer, "overfit_batches", False):
            return 0
        # "processed" and not "ready": a batch that an interruption broke off is still to be trained on.
        total = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return total.processed  # type: ignore[attr-defined]  # Lightning declares the base class, which lacks it

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer else 1

    def _look_features_up(self, split: str) -> None:
        """Done when a loader is made: a checkpoint's weights are loaded after setup()."""
        if self.source is None:
            return
        features, several = None, self.trainer if self._world_size > 1 else None
        if self._embedding is not None and not (split == "train" and self.augmentation.is_on):
            assert self.bank is not None
            if several and not several.is_global_zero:  # the others find in the cache what the first one computes
                several.strategy.barrier("features")
            name = f"{type(self).__name__} {split}"
            features = load_features(self.bank, self.pools[split], name, self._embedding, self.normalise)
            if several and several.is_global_zero:
                several.strategy.barrier("features")
        self.source.use_features(split, features)

    def _loader(
        self, split: str, batch_size: int, n_tasks: int | None, first_batch: int | Callable[[], int] = 0
    ) -> DataLoader[Any]:
        self._look_features_up(split)
        rank = self.trainer.global_rank if self.trainer else 0
        gather = None if self._images_follow_device else lambda task_id: self._draw(split, task_id, in_features=True)
        stream = TaskStream(batch_size, first_batch, n_tasks, rank, self._world_size, gather)
        pin = self.loading.images_on != "device" and torch.cuda.is_available()
        return DataLoader(stream, batch_size=None, num_workers=self.loading.num_workers, pin_memory=pin)
