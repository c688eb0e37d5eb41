"""The learners. A new method is one file here, one line below and one file in configs/."""

from modules.anil import ANIL
from modules.backbones import Backbone, Conv4
from modules.base import Learner
from modules.baseline_plus_plus import BaselinePlusPlus
from modules.boil import BOIL
from modules.es_maml import ESMAML
from modules.fine_tuned_protonet import FineTunedProtoNet
from modules.from_scratch import FromScratch
from modules.imaml import IMAML
from modules.leo import LEO
from modules.maml import MAML
from modules.maml_plus_plus import MAMLPlusPlus
from modules.meta_sgd import MetaSGD
from modules.mlp import MLP
from modules.outer_loop import OuterLoop
from modules.pretrained import PreTrained
from modules.protonet import ProtoNet
from modules.relation_embedding import RelationEmbedding
from modules.relation_network import RelationNetwork
from modules.reptile import Reptile
from modules.resnet12 import ResNet12
from modules.timm_backbone import Timm

__all__ = [
    "ANIL",
    "BOIL",
    "ESMAML",
    "IMAML",
    "LEO",
    "MAML",
    "MLP",
    "Backbone",
    "BaselinePlusPlus",
    "Conv4",
    "FineTunedProtoNet",
    "FromScratch",
    "Learner",
    "MAMLPlusPlus",
    "MetaSGD",
    "OuterLoop",
    "PreTrained",
    "ProtoNet",
    "RelationEmbedding",
    "RelationNetwork",
    "Reptile",
    "ResNet12",
    "Timm",
]
