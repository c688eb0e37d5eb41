"""The data sets. A new one is one file in sets/ and one line below."""

from datamodules.episode import Episode
from datamodules.episode_data import EpisodeDataModule
from datamodules.images.augmentation import Augmentation
from datamodules.images.bank_data import BankDataModule
from datamodules.sets.cifar import CIFARFS, FC100
from datamodules.sets.cub import CUB
from datamodules.sets.glyphs.glyphs import Glyphs
from datamodules.sets.image_folder import ImageFolder
from datamodules.sets.mini_imagenet import MiniImageNet
from datamodules.sets.omniglot.omniglot import Omniglot
from datamodules.sets.sinusoid import Sinusoid
from datamodules.sets.support_query import SupportQuery
from datamodules.sets.tiered_imagenet import TieredImageNet
from datamodules.settings import Evaluation, Loading

__all__ = [
    "CIFARFS",
    "CUB",
    "FC100",
    "Augmentation",
    "BankDataModule",
    "Episode",
    "EpisodeDataModule",
    "Evaluation",
    "Glyphs",
    "ImageFolder",
    "Loading",
    "MiniImageNet",
    "Omniglot",
    "Sinusoid",
    "SupportQuery",
    "TieredImageNet",
]
