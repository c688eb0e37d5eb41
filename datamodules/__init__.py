"""The data sets. A new one is one file here and one line below."""

from datamodules.augmentation import Augmentation
from datamodules.bank_data import BankDataModule
from datamodules.base import EpisodeDataModule
from datamodules.cifar import CIFARFS, FC100
from datamodules.cub import CUB
from datamodules.episode import Episode
from datamodules.glyphs import Glyphs
from datamodules.image_folder import ImageFolder
from datamodules.mini_imagenet import MiniImageNet
from datamodules.omniglot import Omniglot
from datamodules.settings import Evaluation, Loading
from datamodules.sinusoid import Sinusoid
from datamodules.support_query import SupportQuery
from datamodules.tiered_imagenet import TieredImageNet

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
