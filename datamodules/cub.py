"""CUB-200-2011: 200 species of birds."""

from pathlib import Path

from datamodules.augmentation import Augmentation
from datamodules.bank_cache import user_cache
from datamodules.image_data import ImageData, square_spec
from datamodules.image_files import ClassFiles, Listing, image_paths
from datamodules.image_lists import read_json
from datamodules.settings import Evaluation, Loading

LISTS = Path(__file__).parent / "splits" / "cub"
FOLDERS = ("images", "CUB_200_2011/images", "cub/CUB_200_2011/images", "cub/images")


class CUB(ImageData):
    """Caltech-UCSD Birds-200-2011, the centre square of each photograph: 100 / 50 / 50 species.

    Lies under `root` as CUB_200_2011/images/NNN.Species/, as its archive unpacks.

    Args:
        n_way: Classes in a training task.
        k_shot: Support examples of each class in a training task.
        n_query: Query examples of each class in a training task.
        meta_batch_size: Tasks of one training batch over all devices; their number must divide it.
        evaluation: Validation and test tasks.
        loading: Where the images are kept.
        seed: Seed of the training tasks.
        root: The folder, or one with CUB_200_2011/ in it.
        image_size: Side of the images in pixels.
        strict: Whether files that are no images stop the run; otherwise they are named and left out.
        augmentation: Of training tasks.

    Reference:
        Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011; the split: Chen et al., "A Closer Look at Few-shot
        Classification", ICLR 2019.
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
        spec = square_spec(image_size, fit="crop")
        super().__init__(
            n_way, k_shot, n_query, meta_batch_size, evaluation, loading, seed, augmentation, spec, strict, base
        )
        self.save_hyperparameters()
        self.root = base

    def find_files(self) -> Listing:
        """The photographs of each species.

        Raises:
            ValueError: If CUB is not there, or a species is missing.
        """
        names = {split: read_json(LISTS / f"{split}.json") for split in ("train", "val", "test")}
        folder = next((self.root / name for name in FOLDERS if (self.root / name / names["train"][0]).is_dir()), None)
        if folder is None:
            raise ValueError(
                f"CUB is not in {self.root.absolute()}: unpack CUB_200_2011.tgz (https://data.caltech.edu/records/"
                "65de6-vp158) there, or set data.root to the folder that has CUB_200_2011/."
            )
        return Listing.of_splits({s: [_species(folder, name) for name in listed] for s, listed in names.items()})


def _species(folder: Path, name: str) -> ClassFiles:
    paths = tuple(image_paths(folder / name))
    if not paths:
        raise ValueError(f"the copy of CUB in {folder} is not whole: {name} has no image. Unpack it again.")
    return ClassFiles(name, paths)
