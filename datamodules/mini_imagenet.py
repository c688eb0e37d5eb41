"""mini-ImageNet: 100 classes of 600 photographs, in the split of Ravi and Larochelle."""

from pathlib import Path
from typing import Any

from datamodules.augmentation import Augmentation
from datamodules.bank_cache import user_cache
from datamodules.image_data import ImageData, square_spec
from datamodules.image_files import Listing
from datamodules.image_lists import read_list
from datamodules.settings import Evaluation, Loading

FOLDERS = ("", "mini-imagenet", "mini_imagenet", "miniimagenet", "miniImagenet")


class MiniImageNet(ImageData):
    """mini-ImageNet, 84x84 pixels unless told otherwise: 64 / 16 / 20 classes.

    Lies under `root` as a folder images/ and the lists train.csv, val.csv and test.csv (`filename,label`), as Ravi and
    Larochelle publish them. ImageNet's terms allow no download without an account.

    Args:
        n_way: Classes in a training task.
        k_shot: Support examples of each class in a training task.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices; their number must divide it.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        root: The folder, or one with mini-imagenet/ in it.
        image_size: Side of the images in pixels.
        strict: Whether files that are no images stop the run; otherwise they are named and left out.
        augmentation: Of training tasks.

    Reference:
        Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016; the split: Ravi and Larochelle,
        "Optimization as a Model for Few-Shot Learning", ICLR 2017.
    """

    def __init__(
        self,
        n_way: int = 5,
        k_shot: int = 1,
        n_query: int = 15,
        meta_batch_size: int = 4,
        evaluation: Evaluation = Evaluation(),
        loading: Loading = Loading(),
        seed: int = 0,
        root: str | None = "data",
        image_size: int = 84,
        strict: bool = True,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        base = user_cache() if root is None else Path(root).expanduser()
        spec = square_spec(image_size)
        super().__init__(
            n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation, spec, strict, base
        )
        self.save_hyperparameters()
        self.root = base

    def find_files(self) -> Listing:
        """The files that the three lists name.

        Raises:
            ValueError: If mini-ImageNet is not there.
        """
        for name in FOLDERS:
            folder = self.root / name
            lists = {split: folder / f"{split}.csv" for split in ("train", "val", "test")}
            if all(path.is_file() for path in lists.values()):
                return Listing.of_splits({s: read_list(path, [folder / "images", folder]) for s, path in lists.items()})
        raise ValueError(
            f"mini-ImageNet is not in {self.root.absolute()}: put the folder images/ and the lists train.csv, val.csv "
            "and test.csv of Ravi and Larochelle there, or set data.root to the folder that has them."
        )

    def protocol(self) -> dict[str, Any]:
        """The task that is evaluated, as a result must state it."""
        assert self.bank is not None, "setup() comes first"
        return {**super().protocol(), "split": "ravi", "images_per_class": int(self.bank.class_size.max())}
