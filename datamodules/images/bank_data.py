"""The base of the data sets of images: from an image bank and its class splits to episodes on the device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.episode import Episode
from datamodules.images.augmentation import Augmentation, augmented
from datamodules.images.bank import ImageBank
from datamodules.images.contents import Contents, contents_of
from datamodules.images.conversion import brought_to
from datamodules.images.episode_source import EpisodeSource
from datamodules.images.features import Embedding, load_features
from datamodules.images.input_spec import scaled
from datamodules.images.known_images import KnownImages
from datamodules.images.leaks import leaks_between_splits, refusal
from datamodules.images.pools import check_images_per_class, check_pool, pool_of
from datamodules.progress import say
from datamodules.settings import Evaluation, Loading
from datamodules.tasks.sampling import SPLITS, ClassPool
from datamodules.tasks.task_sizes import Count

EVALUATED = ("val", "test")


class BankDataModule(KnownImages):
    """Emits episodes from a bank of images; a data set says which images there are and how the classes are split.

    Args:
        n_way: Classes in a training task; two numbers, as in [5, 20]: drawn anew for every batch.
        k_shot: Support examples of each class in a training task; two numbers: drawn anew for every batch.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices, whose number must divide it; for a learner that
            trains on labelled examples, groups of these.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        augmentation: Random changes of the images of training tasks.
    """

    image_shape: tuple[int, int, int] = (1, 28, 28)  # (C, H, W)
    images_per_class: int | None = None  # where every class has as many, known before they are read
    has_examples = True
    in_halves: bool = False  # whether these are of a class's half, and support and query each come from one

    def __init__(
        self,
        n_way: Count = 5,
        k_shot: Count = 1,
        n_query: int = 1,
        meta_batch_size: int = 32,
        evaluation: Evaluation = Evaluation(),
        loading: Loading = Loading(),
        seed: int = 0,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        super().__init__(n_way, k_shot, n_query, meta_batch_size, evaluation, seed)
        self.loading, self.augmentation = loading, augmentation
        self.num_workers = loading.num_workers
        self.bank: ImageBank | None = None
        self._contents: Contents | None = None
        self.pools: dict[str, ClassPool] = {}
        self.leaks: list[str] = []
        self.source: EpisodeSource | None = None
        self._images_follow_device = True
        self._embedding: Embedding | None = None
        self._adopted: tuple[int, int, int] | None = None  # (C, H, W) of a checkpoint's learner, where it is another
        self._own_shape = ""  # of the images before, for the result

    # ---- what a data set implements

    def build_bank(self) -> ImageBank:
        """The images of all splits, from the cache where they are there already."""
        raise NotImplementedError

    def split_groups(self, bank: ImageBank) -> dict[str, list[list[int]]] | None:
        """For each split, groups of classes such that a task's classes all come from one; None where there are none."""
        return None

    def normalise(self, images: Tensor) -> Tensor:
        """Scales images from uint8 (..., C, H, W) in [0, 255] to float32 in [0, 1], of the shape of `input_shape`."""
        return scaled(images) if self._adopted is None else brought_to(scaled(images), self._adopted)

    def read_at(self, image_shape: tuple[int, int, int]) -> None:
        """Reads images of another (C, H, W) from now on, as far as the data set can; what is left is converted."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The (C, H, W) of the images in an episode."""
        return self.image_shape if self._adopted is None else self._adopted

    def adopt(self, input_spec: dict[str, Any]) -> None:
        """Converts images to the channels and the size of a checkpoint's learner from now on; before they are read."""
        shape, own = tuple(input_spec.get("image_shape", ())), self.input_shape
        if len(shape) != 3 or shape == own:
            return
        self.read_at(shape)
        self._adopted, self._own_shape = shape, "x".join(map(str, own))
        if self.trainer is None or self.trainer.is_global_zero:
            say(
                f"{type(self).__name__}'s images are converted from (channels, height, width) = {own} to {shape}, "
                "which the checkpoint's learner takes"
            )

    def input_spec(self) -> dict[str, Any]:
        """Returns what a user's image must be turned into; the checkpoint carries it."""
        return {"image_shape": list(self.image_shape), "scaling": "uint8 / 255"}

    # ---- classes and features

    @property
    def n_train_classes(self) -> int:
        """The number of classes that training shows, turned ones too; known after `setup`."""
        return len(self.pools["train"].class_id)

    @property
    def asked_splits(self) -> tuple[str, ...]:
        """The splits of which tasks are drawn: a checkpoint may be tested where its own could not be trained."""
        return SPLITS if self.stage == "fit" else EVALUATED

    def use_features(self, embedding: Embedding | None) -> None:
        """Makes later loaders emit the features of a frozen backbone in place of images; None: images again."""
        self._embedding = embedding if self.loading.cache_features else None

    # ---- Lightning's hooks

    def prepare_data(self) -> None:
        """Fills the cache, once on each machine.

        Raises:
            ValueError: Before anything is read, if tasks need more images than every class has.
        """
        if self.trainer is not None and self.trainer.state.fn is not None:
            self.stage = self.trainer.state.fn.value
        for split in self.asked_splits if self.images_per_class is not None else ():
            check_images_per_class(self.images_per_class or 0, self.shapes[split], split, self.in_halves)
        if self.bank is None:  # every Trainer that is given this module asks again
            self.bank = self.build_bank()
            self._contents = contents_of(self.bank)

    def setup(self, stage: str) -> None:
        """Loads the bank and checks that the splits can make their tasks and that no two share a class or an image.

        Training's tasks are asked of "fit" alone: a checkpoint may be tested where its own could not be drawn.

        Raises:
            ValueError: If a split has too few classes or a class too few images, two splits leak, or the batch does not
                divide over the ranks.
        """
        super().setup(stage)
        asked = self.asked_splits
        bank = self.build_bank() if self.bank is None else self.bank
        pools = self.pools or self._make_pools(bank)
        self._contents = contents = self._contents or contents_of(bank)
        if not self.pools:
            self.leaks = self.look_over(bank, contents)
        for split in asked:
            check_pool(bank, pools[split], self.shapes[split], split)
        if not self.pools:
            self._take(bank, pools, contents)
        assert self.source is not None
        # Anew for every Trainer, whose device may be another one.
        self._images_follow_device = self.source.follows_device = self._fits_device(bank.images)
        self.pin_memory = self.loading.images_on != "device" and torch.cuda.is_available()

    def _take(self, bank: ImageBank, pools: dict[str, ClassPool], contents: Contents) -> None:
        """Draws from these pools from now on, which share nothing.

        Raises:
            ValueError: If two splits leak.
        """
        shared = leaks_between_splits(
            bank, {split: pool.class_id.tolist() for split, pool in pools.items()}, contents.digest
        )
        if shared and self.evaluation.leaks != "warn":
            raise refusal(shared)
        if shared:
            self.say(f"warning: the splits leak: {'; '.join(shared)}")
        self.leaks += shared
        seeds = {split: self.seed_of(split) for split in SPLITS}
        self.bank, self.pools, self.source = bank, pools, EpisodeSource(bank, pools, seeds)

    def _make_pools(self, bank: ImageBank) -> dict[str, ClassPool]:
        groups = self.split_groups(bank) or {split: [classes] for split, classes in self.split_classes(bank).items()}
        return {split: pool_of(bank, groups[split]) for split in SPLITS}

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Episode:
        """Makes the Episode: from task numbers where the images are on the device, else from the images gathered."""
        if isinstance(batch, Tensor):
            batch = self._draw(self._split(), batch, in_features=True)
        batch = self._normalised(batch)
        if self.augmentation.is_on and self._split() == "train":
            batch = augmented(batch, self.seed, self.augmentation)
        return self._converted(batch)

    # ---- episodes

    def draw(self, split: str, task_id: Tensor) -> Episode:
        """The tasks of these numbers, with their images in [0, 1]."""
        return self._normalised(self._draw(split, task_id))

    def protocol(self) -> dict[str, Any]:
        """The task that is evaluated, as a result must state it."""
        augmentation = {"train_augmentation": self.augmentation.describe()} if self.augmentation.is_on else {}
        leaks = {"leaks": "; ".join(self.leaks)} if self.leaks else {}
        converted = {"images_converted_from": self._own_shape} if self._adopted else {}
        return {**super().protocol(), **augmentation, **leaks, **converted}

    def _draw(self, split: str, task_id: Tensor, in_features: bool = False) -> Episode:
        """Task numbers (T,) to an Episode of uint8 images, or of features where there are some."""
        assert self.source is not None, "setup() comes first"
        if split == "train" and self.group_size is not None:
            return self.source.examples(task_id, self.group_size, in_features)
        return self.source.episode(split, task_id, self.shape_of(split, task_id), in_features)

    def _normalised(self, episode: Episode) -> Episode:
        if episode.task.x.is_floating_point():  # features
            return episode
        return episode.map_inputs(self.normalise)

    def _fits_device(self, images: Tensor) -> bool:
        if self.loading.images_on != "auto":
            return self.loading.images_on == "device"
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        if device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(device)
        return images.numel() < free // 2

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

    def _gatherer(self, split: str) -> Callable[[Tensor], Episode] | None:
        return None if self._images_follow_device else lambda task_id: self._draw(split, task_id, in_features=True)

    def _loader(
        self, split: str, batch_size: int, n_tasks: int | None, first_task: int | Callable[[], int] = 0
    ) -> DataLoader[Any]:
        self._look_features_up(split)
        return super()._loader(split, batch_size, n_tasks, first_task)
