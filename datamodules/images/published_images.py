"""The base of the published data sets of photographs, which differ in their files and splits alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from datamodules.images.augmentation import Augmentation
from datamodules.images.cache import user_cache
from datamodules.images.image_data import ImageData
from datamodules.images.image_files import ClassFiles, Listing, image_paths
from datamodules.images.input_spec import Fit, InputSpec
from datamodules.settings import Evaluation, Loading
from datamodules.tasks.task_sizes import Count

SHOWN = 3


class PublishedImages(ImageData):
    """Colour photographs, brought to squares; a data set says where they lie and how they are split.

    Args:
        n_way: Classes in a training task; two numbers, as in [5, 20]: drawn anew for every batch.
        k_shot: Support examples of each class in a training task; two numbers: drawn anew for every batch.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices, whose number must divide it; for a learner that
            trains on labelled examples, groups of these.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        root: The folder with the data set as its authors publish it.
        image_size: Side of the images in pixels.
        strict: Whether files that are no images stop the run; otherwise they are named and left out.
        cache: Folder for the decoded images; None: the root.
        augmentation: Of training tasks.
    """

    fit: Fit = "squash"  # oblong photographs

    def __init__(
        self,
        n_way: Count = 5,
        k_shot: Count = 1,
        n_query: int = 15,
        meta_batch_size: int = 4,
        evaluation: Evaluation = Evaluation(),
        loading: Loading = Loading(),
        seed: int = 0,
        root: str | None = "data",
        image_size: int = 84,
        strict: bool = True,
        cache: str | None = None,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        base = user_cache() if root is None else Path(root).expanduser()
        folder = base if cache is None else Path(cache).expanduser()
        spec = InputSpec((3, image_size, image_size), fit=self.fit)
        super().__init__(
            n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation, spec, strict, folder
        )
        self.save_hyperparameters()
        self.root = base


def class_folders_of(root: Path, places: Iterable[str], splits: Mapping[str, list[str]], missing: str) -> Listing:
    """The files of classes that are folders named in published lists.

    Args:
        root: The user's folder.
        places: Where under it the class folders may lie, in the order in which they are tried.
        splits: For each split the names of its classes.
        missing: What to say where none of the places has the first class.

    Raises:
        ValueError: If the data set is not there, or a class has no image.
    """
    first = splits["train"][0]
    folder = next((root / place for place in places if (root / place / first).is_dir()), None)
    if folder is None:
        raise ValueError(missing)
    found: dict[str, list[ClassFiles]] = {split: [] for split in splits}
    for split, names in splits.items():
        found[split] = [ClassFiles(name, tuple(image_paths(folder / name))) for name in names]
    if empty := [entry.name for entries in found.values() for entry in entries if not entry.paths]:
        more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
        have = "has" if len(empty) == 1 else "have"
        named = ", ".join(empty[:SHOWN])
        raise ValueError(f"the copy in {folder} is not whole: {named}{more} {have} no image. Unpack it again.")
    return Listing.of_splits(found)
