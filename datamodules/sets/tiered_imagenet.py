"""tieredImageNet: 608 classes of ImageNet, split by the branches of WordNet that they belong to."""

from pathlib import Path

from datamodules.images.image_files import Listing
from datamodules.images.published_images import PublishedImages, class_folders_of

LISTS = Path(__file__).parents[1] / "splits" / "tiered_imagenet"
FOLDERS = ("", "train", "images", "tiered_imagenet", "tiered_imagenet/images", "ILSVRC/Data/CLS-LOC/train")


class TieredImageNet(PublishedImages):
    """tieredImageNet, 84x84 pixels unless told otherwise: 351 / 97 / 160 classes, made from ImageNet's own files.

    Lies under `root` as ImageNet's training images, a folder for each WordNet number (n01530575/ ...). The files in
    which it is passed around as well are pickles, which can execute code: they are not read. 779,165 images of 84x84
    take 16.5 GB of disk.

    Reference:
        Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR 2018. Deviation: the images are
        resized from the originals by an antialiased bilinear filter; the authors' files were made by another.
    """

    def find_files(self) -> Listing:
        """The photographs of each class.

        Raises:
            ValueError: If ImageNet is not there, or a class is missing.
        """
        names = {split: (LISTS / f"{split}.txt").read_text("utf-8").split() for split in ("train", "val", "test")}
        missing = (
            f"ImageNet is not in {self.root.absolute()}: put its training images there, a folder for each class "
            f"({names['train'][0]}/ ...), or set data.root to the folder that has them."
        )
        return class_folders_of(self.root, FOLDERS, names, missing)
