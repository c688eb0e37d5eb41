"""tieredImageNet: 608 classes of ImageNet, split by the branches of WordNet that they belong to."""

from pathlib import Path

from datamodules.augmentation import Augmentation
from datamodules.bank_cache import user_cache
from datamodules.image_data import ImageData, square_spec
from datamodules.image_files import ClassFiles, Listing, image_paths
from datamodules.settings import Evaluation, Loading

LISTS = Path(__file__).parent / "splits" / "tiered_imagenet"
FOLDERS = ("", "train", "images", "tiered_imagenet", "tiered_imagenet/images", "ILSVRC/Data/CLS-LOC/train")


class TieredImageNet(ImageData):
    """tieredImageNet, 84x84 pixels unless told otherwise: 351 / 97 / 160 classes, made from ImageNet's own files.

    Lies under `root` as ImageNet's training images, a folder for each WordNet number (n01530575/ ...). The files in
    which it is passed around as well are pickles, which can execute code: they are not read. 779,165 images of 84x84
    take 16.5 GB of disk.

    Args:
        n_way: Classes in a training task.
        k_shot: Support examples of each class in a training task.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices; their number must divide it.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        root: The folder with ImageNet's class folders, or one with train/ in it.
        image_size: Side of the images in pixels.
        strict: Whether files that are no images stop the run; otherwise they are named and left out.
        cache: Folder for the decoded images; None: the root.
        augmentation: Of training tasks.

    Reference:
        Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR 2018. Deviation: the images are
        resized from the originals by an antialiased bilinear filter; the authors' files were made by another.
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
        cache: str | None = None,
        augmentation: Augmentation = Augmentation(),
    ) -> None:
        base = user_cache() if root is None else Path(root).expanduser()
        folder, spec = base if cache is None else Path(cache).expanduser(), square_spec(image_size)
        super().__init__(
            n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation, spec, strict, folder
        )
        self.save_hyperparameters()
        self.root = base

    def find_files(self) -> Listing:
        """The photographs of each class.

        Raises:
            ValueError: If ImageNet is not there, or a class is missing.
        """
        names = {split: (LISTS / f"{split}.txt").read_text("utf-8").split() for split in ("train", "val", "test")}
        folder = next((self.root / name for name in FOLDERS if (self.root / name / names["train"][0]).is_dir()), None)
        if folder is None:
            raise ValueError(
                f"ImageNet is not in {self.root.absolute()}: put its training images there, a folder for each class "
                f"({names['train'][0]}/ ...), or set data.root to the folder that has them."
            )
        return Listing.of_splits({s: [_photographs(folder, name) for name in listed] for s, listed in names.items()})


def _photographs(folder: Path, name: str) -> ClassFiles:
    paths = tuple(image_paths(folder / name))
    if not paths:
        raise ValueError(f"the ImageNet in {folder} is not whole: the class {name} has no image.")
    return ClassFiles(name, paths)
