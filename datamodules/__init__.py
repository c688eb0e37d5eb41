"""The data sets. A new one is one file here and one line below."""

from datamodules.augmentation import Augmentation
from datamodules.base import EpisodeDataModule, Evaluation, Loading
from datamodules.episode import Episode
from datamodules.glyphs import Glyphs
from datamodules.omniglot import Omniglot
from datamodules.support_query import SupportQuery

__all__ = [
    "Augmentation",
    "Episode",
    "EpisodeDataModule",
    "Evaluation",
    "Glyphs",
    "Loading",
    "Omniglot",
    "SupportQuery",
]
