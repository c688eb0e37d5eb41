"""A user's own task: a folder of support images for each class, and images to classify."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.episode import Episode, Task
from datamodules.episode_data import EpisodeDataModule
from datamodules.images.bank import ImageBank
from datamodules.images.class_sizes import TooFew
from datamodules.images.contents import image_digests
from datamodules.images.duplicates import SHOWN, images_of_several_classes, said_of_copies, said_of_two_labels
from datamodules.images.folder_layout import ClassFiles, Which
from datamodules.images.image_files import (
    check_no_class_is_empty,
    class_folders,
    image_paths,
    read_bank,
    read_images,
    say_passed_over,
)
from datamodules.images.input_spec import InputSpec, scaled
from datamodules.progress import say
from datamodules.tasks.query_batches import QueryBatches

UNKNOWN = -1  # the label of an image whose class nobody has said


class SupportQuery(EpisodeDataModule):
    """One task of a user's own: learns the classes of `support`, and classifies the images of `query`.

    The images are brought to the size, channels and scaling that the checkpoint was trained with. Given to a Trainer
    from Python, it reads them when the learner's checkpoint has been loaded.

    Args:
        support: A folder with a folder of images for each class; any number of classes from two, of images from one.
        query: A folder of images, however deep, or one image. Those in folders named like the classes are scored too.
        strict: Whether files that are no images stop the run; otherwise they are named and left out.
        batch_size: Images classified at once.
        classes: Which folders of folders are the classes: "top": the first ones, each with all images in it, however
            deep; "deepest": each folder that itself holds images, named by its path, as "alphabet/character"; None:
            the first ones, and a folder where that makes a difference is refused.
        too_few: Of classes without an image: "refuse" names all of them; "leave_out" names them and takes the others.
    """

    def __init__(
        self,
        support: str,
        query: str | None = None,
        strict: bool = True,
        batch_size: int = 64,
        classes: Which | None = None,
        too_few: TooFew = "refuse",
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        self.save_hyperparameters()
        self.support_folder = Path(support).expanduser()
        self.query_folder = None if query is None else Path(query).expanduser()
        self.strict, self.batch_size = strict, batch_size
        self.classes, self.too_few = classes, too_few
        self.shapes = {}  # any number of classes and examples
        self.spec: InputSpec | None = None
        self._adopted = False  # rather than taken from the learner that is asked
        self.class_names: tuple[str, ...] = ()
        self.class_sizes: tuple[int, ...] = ()
        self.support_files: dict[str, tuple[Path, ...]] = {}
        self.files: list[Path] = []
        self._task = Task.of(torch.empty(1, 0), torch.empty(1, 0), 1)  # of images (1, S, C, H, W) uint8
        self._query = torch.empty(0)  # (N, C, H, W) uint8
        self._support_contents = self._query_contents = torch.empty(0, dtype=torch.int64)  # (S,), (N,)
        self.copy_of: dict[Path, Path] = {}  # of query images that are support images: which
        self._warned_of_trained = False

    def adopt(self, input_spec: dict[str, Any]) -> None:
        """Takes what images are turned into from the checkpoint."""
        self.spec, self._adopted = InputSpec.from_dict(input_spec), True

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The (C, H, W) that the checkpoint was trained with; () where it is whatever the learner takes."""
        return self.spec.image_shape if self._adopted and self.spec else ()

    def input_spec(self) -> dict[str, Any]:
        """Returns what images are turned into."""
        return {} if self.spec is None else self.spec.as_dict()

    def prepare_data(self) -> None:
        """Nothing: the images are read where they are."""

    def setup(self, stage: str) -> None:
        """Reads the support and the query images.

        Raises:
            ValueError: If a folder is not there or holds too little, a file is no image, or tasks to train on or to be
                scored by are asked for.
        """
        if stage in ("fit", "validate", "test"):
            raise ValueError(
                f"SupportQuery is one task, for predict and export: to {getattr(stage, 'value', stage)} on your own "
                "classes, set --data to ImageFolder."
            )
        if self.class_names or self.spec is None:
            return
        classes = self._classes()
        files = self._query_files()
        bank, kept = read_bank(classes, self.spec, "support", self.strict, once=True)
        self._support_contents = self._looked_over(bank, classes, kept)
        self.support_files = {entry.name: entry.paths for entry in kept}
        self.class_names, self.class_sizes = bank.class_names, tuple(bank.class_size.tolist())
        labels = torch.arange(len(classes)).repeat_interleave(bank.class_size)  # (S,)
        self._task = Task.of(bank.images.unsqueeze(0), labels.unsqueeze(0), len(classes))
        if files:
            images, read = read_images(files, self.spec, "query", self.strict)
            self._query, self.files = torch.from_numpy(images), [files[i] for i in read]
            if not self.files:
                raise ValueError(f"no image of {self.query_folder} can be read.")
            self._query_contents = image_digests(self._query)
            self._find_copies_of_support()
            self._say_which_folders_are_one_class()

    def _classes(self) -> list[ClassFiles]:
        """The classes to learn and their files.

        Raises:
            ValueError: If there are fewer than two, or some have no image and are not to be left out.
        """
        found = class_folders(self.support_folder, self.classes)
        if self.too_few == "leave_out":
            if empty := [repr(entry.name) for entry in found if not entry.paths]:
                say(f"left out of {self.support_folder}, without an image: {', '.join(empty)}")
            found = [entry for entry in found if entry.paths]
        check_no_class_is_empty(found, str(self.support_folder))
        if len(found) < 2:
            held = f"one class, {found[0].name!r}" if found else "no class with an image"
            raise ValueError(f"{self.support_folder} holds {held}: a classifier needs two or more.")
        return found

    def _follow_learner(self) -> None:
        """Reads the images as the Trainer's learner takes them, unless `adopt` has said how.

        Raises:
            ValueError: If nobody says it.
        """
        if self._adopted:
            return
        learner: Any = self.trainer.lightning_module if self.trainer else None
        stored = getattr(learner, "input_spec", None) or {"image_shape": getattr(learner, "input_shape", None) or ()}
        if len(stored.get("image_shape", stored.get("input_shape", ()))) != 3:
            raise ValueError(
                "SupportQuery does not know what images are turned into: predict with a learner that was trained on "
                "images, or call adopt({'image_shape': (channels, height, width)})."
            )
        spec = InputSpec.from_dict(stored)
        if spec != self.spec:
            self.spec, self.class_names, self.files = spec, (), []
        self.setup("predict")

    def _looked_over(self, bank: ImageBank, classes: list[ClassFiles], kept: list[ClassFiles]) -> Tensor:
        """The support images' contents (S,); names those that were left out as copies of others of their class.

        Raises:
            ValueError: If two classes hold the same image; names both files.
        """
        files = [path for entry in classes for path in entry.paths]
        if copies := [(same, copy) for copy, same in bank.left_out if same >= 0]:
            say(f"support: {said_of_copies(copies, lambda i: str(files[i]))}")
        learned = [path for entry in kept for path in entry.paths]
        contents, owner = image_digests(bank.images), np.repeat(np.arange(len(kept)), bank.class_size.numpy())
        if pairs := images_of_several_classes(contents, owner):
            found = said_of_two_labels(pairs, lambda i: str(learned[i]))
            raise ValueError(f"{found}. A support image belongs to one class: remove the wrong one of each two files.")
        return contents

    def _find_copies_of_support(self) -> None:
        """Finds the query images whose content is a support image's, and says so."""
        learned = [path for paths in self.support_files.values() for path in paths]
        place = dict(zip(self._support_contents.tolist(), learned, strict=True))
        found = {i: place[same] for i, same in enumerate(self._query_contents.tolist()) if same in place}
        self.copy_of = {self.files[i]: original for i, original in found.items()}
        if found:
            named = ", ".join(f"{copy} is {original}" for copy, original in list(self.copy_of.items())[:SHOWN])
            more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
            say(
                f"warning: {len(found):,} of the {len(self.files):,} query images are support images: {named}{more}. "
                "Their answers prove nothing and do not count as right or wrong."
            )

    def check_unseen(self, trained: list[str], splits: Iterable[str], images: Tensor | None = None) -> None:
        """Warns where support or query images were trained on, which are no new classes."""
        if images is None or self._warned_of_trained:
            return
        kinds = (("support", self._support_contents), ("query", self._query_contents))
        counts = {kind: (int(torch.isin(contents, images).sum()), len(contents)) for kind, contents in kinds}
        if found := [f"{seen:,} of the {n:,} {kind} images" for kind, (seen, n) in counts.items() if seen]:
            self._warned_of_trained = True
            say(
                f"warning: the checkpoint or its backbone was trained on {' and '.join(found)}: answers for images of "
                "new classes may be worse than these."
            )

    def support(self) -> Task:
        """The support set as one task: images (1, S, C, H, W) in [0, 1] and labels (1, S)."""
        return self._task._replace(x=scaled(self._task.x))

    def label_of(self, file: Path) -> int:
        """The class in whose folder a query image lies, nearest first; `UNKNOWN` where in none."""
        return self._class_and_folder(file)[0]

    def _class_and_folder(self, file: Path) -> tuple[int, str]:
        """A query image's class and the folder that says it: of several the nearest, of its names the longest."""
        inside = file.relative_to(self.query_folder).parts[:-1] if self.query_folder not in (None, file) else ()
        names = {name: label for label, name in enumerate(self.class_names)}
        for end in range(len(inside), 0, -1):
            for start in range(end):
                if (label := names.get("/".join(inside[start:end]))) is not None:
                    return label, "/".join(inside[:end])
        return UNKNOWN, ""

    def _say_which_folders_are_one_class(self) -> None:
        """Tells of classes that several query folders are taken for, as `greek/01` and `latin/01` for a class `01`."""
        folders: dict[int, set[str]] = {}
        for label, folder in map(self._class_and_folder, self.files):
            folders.setdefault(label, set()).add(folder)
        for label, several in sorted(folders.items()):
            if label != UNKNOWN and len(several) > 1:
                names = ", ".join(sorted(several))
                say(f"query images in {len(several)} folders are scored as {self.class_names[label]!r}: {names}")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The queries in batches, each an Episode of the one task whose `task_id` is the position of its first file.

        Raises:
            ValueError: If there is no query.
        """
        self._follow_learner()
        if not self.files:
            raise ValueError("there is nothing to classify: set data.query to a folder of images, or to one image.")
        labels = torch.tensor([self.label_of(file) for file in self.files])
        rank = self.trainer.global_rank if self.trainer else 0
        batches = QueryBatches(self._task, self._query, labels, self.batch_size, rank, self._world_size)
        return DataLoader(batches, batch_size=None)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Episode:
        """Scales the images and gives them the Trainer's precision."""
        return self._converted(batch.map_inputs(scaled))

    def protocol(self) -> dict[str, Any]:
        """The task, as a result must state it."""
        return {"data": "SupportQuery", "n_way": len(self.class_names), "support_images": sum(self.class_sizes)}

    def _query_files(self) -> list[Path]:
        folder = self.query_folder
        if folder is None:
            return []
        if folder.is_file():
            return [folder]
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}: set data.query to a folder of images, or to one image.")
        others: Counter[str] = Counter()
        files = image_paths(folder, others)
        say_passed_over(others, folder)
        if not files:
            raise ValueError(f"{folder} holds no image to classify.")
        return files
