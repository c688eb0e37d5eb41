"""The identity of a bank's images: their contents, their names, and those that were trained on."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from datamodules.episode_data import EpisodeDataModule
from datamodules.images.bank import ImageBank
from datamodules.images.contents import Contents, combined_digest, contents_of
from datamodules.images.duplicates import copies_in_published, images_of_classes
from datamodules.images.leaks import class_origins, refusal_of_seen, seen_in_training
from datamodules.progress import say
from datamodules.settings import Evaluation
from datamodules.tasks.sampling import ClassPool


class KnownImages(EpisodeDataModule):
    """A data set whose images are told apart by their contents; a subclass makes bank and pools in `setup`."""

    evaluation: Evaluation
    bank: ImageBank | None
    pools: dict[str, ClassPool]
    leaks: list[str]  # what results must state
    _contents: Contents | None

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        """The bank's classes that belong to "train", "val" and "test"; disjoint."""
        raise NotImplementedError

    def image_name(self, bank: ImageBank, image: int) -> str:
        """Names an image of the bank for a reader."""
        c = int(((bank.class_start <= image) & (image < bank.class_start + bank.class_size)).nonzero()[0])
        return f"image {image - int(bank.class_start[c]) + 1} of {class_origins(bank, [c])[0]!r}"

    def look_over(self, bank: ImageBank, contents: Contents) -> list[str]:
        """Looks for images that stand twice within a split; a published data set names them once, and keeps them.

        Args:
            bank: The images.
            contents: Their contents; fresh where nobody has looked yet.

        Returns:
            What results must state.

        Raises:
            ValueError: If a user's own data hold what makes no sense.
        """
        name = partial(self.image_name, bank)
        if contents.fresh:
            for line in copies_in_published(bank, contents.digest, self.split_classes(bank), name):
                self.say(f"{type(self).__name__}: {line}")
        return []

    def say(self, line: str) -> None:
        """A line for the user, from one process."""
        if self.trainer is None or self.trainer.is_global_zero:
            say(line)

    @property
    def contents(self) -> Tensor:
        """(N,) int64: the digests of the bank's images, computed once and kept beside the cache."""
        assert self.bank is not None, "setup() comes first"
        if self._contents is None:
            self._contents = contents_of(self.bank)
        return self._contents.digest

    def identity(self) -> str:
        """16 hexadecimal digits that say what the data are: each split's classes by name and their images' contents.

        Where the data lie, the times of the files and how images are loaded make no difference.
        """
        assert self.bank is not None, "setup() comes first"
        parts: list[str | Tensor] = []
        for split, classes in self.split_classes(self.bank).items():
            parts.append(split)
            for c in classes:
                first, size = int(self.bank.class_start[c]), int(self.bank.class_size[c])
                parts += [self.bank.class_names[c], self.contents[first : first + size]]
        return combined_digest(*parts)

    def trained_classes(self) -> list[str]:
        """The names of the classes that training shows, a turned one under its own."""
        if self.bank is None or not self.pools:
            return []
        return class_origins(self.bank, self.pools["train"].class_id.tolist())

    def trained_images(self) -> Tensor:
        """(M,) int64: the digests of the training split's images, sorted, each once."""
        if self.bank is None or not self.pools:
            return super().trained_images()
        return self.contents[images_of_classes(self.bank, self.pools["train"].class_id.tolist())[0]].unique()

    def check_unseen(self, trained: list[str], splits: Iterable[str], images: Tensor | None = None) -> None:
        """Checks that nothing of some splits was trained on, as where folders were added, renamed or split anew since.

        Args:
            trained: What `trained_classes` gave then.
            splits: Those that are to be scored.
            images: (M,) int64: what `trained_images` gave then.

        Raises:
            ValueError: If it was, unless evaluation.leaks is "warn".
        """
        if self.bank is None or not self.pools:
            return
        named = sorted(set(trained) - set(self.trained_classes()))
        fresh = super().trained_images() if images is None else images
        fresh = fresh[~torch.isin(fresh, self.trained_images())]  # leaks of the own splits are setup()'s
        found: list[str] = []
        for split in splits:
            classes = self.pools[split].class_id.tolist()
            found += seen_in_training(self.bank, split, classes, named, fresh, self.contents)
        if found and self.evaluation.leaks != "warn":
            raise refusal_of_seen(found)
        for line in found:
            if line not in self.leaks:  # the Trainer asks again
                self.leaks.append(line)
                self.say(f"warning: {line}")
