"""The learners. A new method is one file here, one line below and one file in configs/."""

from modules.backbones import Backbone, Conv4
from modules.base import Learner
from modules.fine_tuned_protonet import FineTunedProtoNet
from modules.maml import MAML
from modules.outer_loop import OuterLoop
from modules.protonet import ProtoNet
from modules.reptile import Reptile
from modules.resnet12 import ResNet12
from modules.timm_backbone import Timm

__all__ = [
    "MAML",
    "Backbone",
    "Conv4",
    "FineTunedProtoNet",
    "Learner",
    "OuterLoop",
    "ProtoNet",
    "Reptile",
    "ResNet12",
    "Timm",
]
