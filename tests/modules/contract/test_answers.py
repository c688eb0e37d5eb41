"""How every learner adapts and answers, without a Trainer."""

import pytest
import torch

from modules import Learner
from modules.learner.classifier import Classifier
from tests.every_learner import (
    N_WAY,
    OF_IMAGES,
    episode_of,
    every,
    leave_out,
    make_small,
    make_suited,
    support_and_queries,
)
from tests.learnable_images import TwoBlocks, make_episode
from tests.modules.contract.checks import (
    check_buffers,
    check_finite_answers,
    check_noise,
    check_other_queries_change_nothing,
    check_queries_at_once,
    check_states,
    check_tasks_at_once,
)

BOTH_STATISTICS = pytest.mark.parametrize("running_stats", [False, True])


@pytest.fixture(autouse=True)
def _left_out(request: pytest.FixtureRequest) -> None:
    leave_out(request.getfixturevalue("kind"), request)


@BOTH_STATISTICS
@every()
def test_adapt_yields_a_state_after_each_step(kind: type[Learner], running_stats: bool) -> None:
    learner, data = make_suited(kind, running_stats)
    check_states(learner, episode_of(data, 3, "val"))


@every()
def test_noise_is_a_function_of_the_tasks_number(kind: type[Learner]) -> None:
    check_noise(make_suited(kind)[0])


@BOTH_STATISTICS
@every()
def test_buffers_have_one_shape(kind: type[Learner], running_stats: bool) -> None:
    check_buffers(make_suited(kind, running_stats)[0])


@BOTH_STATISTICS
@every()
def test_other_queries_change_nothing(kind: type[Learner], running_stats: bool) -> None:
    check_other_queries_change_nothing(make_small(kind, running_stats), *support_and_queries())


@BOTH_STATISTICS
@every()
def test_queries_at_once_are_queries_one_by_one(kind: type[Learner], running_stats: bool) -> None:
    check_queries_at_once(make_small(kind, running_stats), *support_and_queries())


@BOTH_STATISTICS
@every()
def test_several_tasks_are_tasks_one_by_one(kind: type[Learner], running_stats: bool) -> None:
    check_tasks_at_once(make_small(kind, running_stats), make_episode(3))


@every(OF_IMAGES)
def test_fewer_shots_and_more_of_one_class_are_answered(kind: type[Learner]) -> None:
    """Trained with 2 shots; here 1, 5, and 5 of one class with 1 of the others."""
    five = make_episode(2, k_shot=5)
    chosen = torch.tensor([0, 1, 2, 3, 4, 5, 10])
    task = five.task._replace(x=five.task.x[:, chosen], y=five.task.y[:, chosen])
    assert torch.bincount(task.y[0]).tolist() == [5, 1, 1]
    check_finite_answers(make_small(kind), [make_episode(2, k_shot=1), five, five._replace(task=task)])


@every(OF_IMAGES)
def test_other_numbers_of_classes_are_answered_or_refused_in_one_line(kind: type[Learner]) -> None:
    learner, more = make_small(kind), make_episode(2, n_way=N_WAY + 2)
    check_finite_answers(learner, [make_episode(2, n_way=N_WAY - 1)])
    if learner.fixed_way is None:
        check_finite_answers(learner, [more])
        return
    with pytest.raises(ValueError, match=rf"{kind.__name__} was trained with 3 outputs, but there are 5") as refusal:
        Classifier(learner, more.task)
    assert "\n" not in str(refusal.value)


@every()
def test_features_are_taken_in_place_of_images(kind: type[Learner]) -> None:
    torch.manual_seed(0)
    backbone = TwoBlocks(running_stats=True)
    backbone(torch.rand(7, 1, 8, 8))
    backbone.freeze()
    learner, images = make_small(kind, backbone=backbone), make_episode(2)
    features = learner.embedded(images)
    assert features.query_x.shape == (2, 6, 16)
    of_images, of_features = (Classifier(learner, each.task).logits(each.query_x) for each in (images, features))
    torch.testing.assert_close(of_features, of_images)
