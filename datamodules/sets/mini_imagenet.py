"""mini-ImageNet: 100 classes of 600 photographs, in the split of Ravi and Larochelle."""

from typing import Any

from datamodules.images.image_files import Listing
from datamodules.images.image_lists import read_list
from datamodules.images.published_images import PublishedImages

FOLDERS = ("", "mini-imagenet", "mini_imagenet", "miniimagenet", "miniImagenet")


class MiniImageNet(PublishedImages):
    """mini-ImageNet, 84x84 pixels unless told otherwise: 64 / 16 / 20 classes.

    Lies under `root` as a folder images/ and the lists train.csv, val.csv and test.csv (`filename,label`), as Ravi and
    Larochelle publish them. ImageNet's terms allow no download without an account.

    Reference:
        Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016; the split: Ravi and Larochelle,
        "Optimization as a Model for Few-Shot Learning", ICLR 2017.
    """

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
