"""CUB-200-2011: 200 species of birds."""

from pathlib import Path

from datamodules.images.image_files import Listing
from datamodules.images.image_lists import read_json
from datamodules.images.published_images import PublishedImages, class_folders_of

LISTS = Path(__file__).parents[1] / "splits" / "cub"
FOLDERS = ("images", "CUB_200_2011/images", "cub/CUB_200_2011/images", "cub/images")


class CUB(PublishedImages):
    """Caltech-UCSD Birds-200-2011, the centre square of each photograph: 100 / 50 / 50 species.

    Lies under `root` as CUB_200_2011/images/NNN.Species/, as its archive unpacks.

    Reference:
        Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011; the split: Chen et al., "A Closer Look at Few-shot
        Classification", ICLR 2019.
    """

    fit = "crop"

    def find_files(self) -> Listing:
        """The photographs of each species.

        Raises:
            ValueError: If CUB is not there, or a species is missing.
        """
        names = {split: read_json(LISTS / f"{split}.json") for split in ("train", "val", "test")}
        missing = (
            f"CUB is not in {self.root.absolute()}: unpack CUB_200_2011.tgz (https://data.caltech.edu/records/"
            "65de6-vp158) there, or set data.root to the folder that has CUB_200_2011/."
        )
        return class_folders_of(self.root, FOLDERS, names, missing)
