"""A method's random numbers of a task stay the same where more steps follow, and know no number of queries."""

import inspect

import pytest
import torch

from datamodules.images.augmentation import Augmentation
from modules import FineTunedProtoNet, Learner
from tests.learnable_images import TwoBlocks
from tests.training_runs import FURTHER_METHODS, METHODS, make_learner

N_SUPPORT = 6


def learner_named(name: str) -> Learner:
    if name == "fine_tuned_protonet":
        return FineTunedProtoNet(TwoBlocks(running_stats=True), support_augmentation=Augmentation(flip=True))
    return make_learner(name, seed=0)


@pytest.mark.parametrize("name", [*METHODS, *FURTHER_METHODS, "fine_tuned_protonet"])
def test_more_steps_leave_the_numbers_of_the_first_ones(name: str) -> None:
    learner = learner_named(name).eval()
    assert list(inspect.signature(learner.draw_noise).parameters) == ["task_id", "n_support", "steps"]
    few, many = (learner.draw_noise(torch.arange(5), N_SUPPORT, steps) for steps in (2, 5))
    assert len(few) == len(many) == 5
    assert few.shape[1] == many.shape[1] == 0 or few.shape[1] < many.shape[1]
    assert torch.equal(few, many[:, : few.shape[1]])


def test_more_examples_leave_the_codes_of_the_first_classes() -> None:
    leo = make_learner("leo", seed=0).train()
    few, many = (leo.draw_noise(torch.arange(5), n_support, 2) for n_support in (3, 6))
    assert few.numel() > 0
    assert torch.equal(few, many[:, :3])
