"""The data sets. A new one is one file here and one line below."""

from datamodules.base import EpisodeDataModule, Evaluation, Loading
from datamodules.episode import Episode
from datamodules.glyphs import Glyphs

__all__ = ["Episode", "EpisodeDataModule", "Evaluation", "Glyphs", "Loading"]
