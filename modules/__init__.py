"""The learners. A new method is one file in methods/, one line below and one file in configs/."""

from modules.backbones.backbone import Backbone
from modules.backbones.conv4 import Conv4
from modules.backbones.mlp import MLP
from modules.backbones.relation_embedding import RelationEmbedding
from modules.backbones.resnet12 import ResNet12
from modules.backbones.timm import Timm
from modules.learner.learner import Learner
from modules.learner.outer_loop import OuterLoop
from modules.methods.anil import ANIL
from modules.methods.baseline_plus_plus import BaselinePlusPlus
from modules.methods.boil import BOIL
from modules.methods.es_maml import ESMAML
from modules.methods.fine_tuned_protonet import FineTunedProtoNet
from modules.methods.from_scratch import FromScratch
from modules.methods.imaml import IMAML
from modules.methods.joint_training import JointTraining
from modules.methods.leo import LEO
from modules.methods.maml import MAML
from modules.methods.maml_plus_plus import MAMLPlusPlus
from modules.methods.meta_sgd import MetaSGD
from modules.methods.protonet import ProtoNet
from modules.methods.relation_network import RelationNetwork
from modules.methods.reptile import Reptile

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
    "JointTraining",
    "Learner",
    "MAMLPlusPlus",
    "MetaSGD",
    "OuterLoop",
    "ProtoNet",
    "RelationEmbedding",
    "RelationNetwork",
    "Reptile",
    "ResNet12",
    "Timm",
]
