"""A network whose weights no task has changed is computed once for the inputs of an episode."""

import torch
from torch import Tensor

from modules import LEO, MAML, BaselinePlusPlus, Learner
from tests.every_learner import make_small
from tests.learnable_images import make_episode


def passes(learner: Learner, remembers: bool) -> tuple[list[int], dict[str, Tensor]]:
    """The sizes of the batches that the backbone embeds while five tasks are scored; and the scores."""
    sizes, backbone, episode = list[int](), learner.backbone, make_episode(5, n_query=4)
    assert backbone is not None
    learner.scores(learner.variables(5), learner.with_noise(episode))  # in which the network is tried on a few numbers
    hook = backbone.register_forward_hook(lambda layer, inputs, outputs: sizes.append(len(outputs)))
    params = learner.variables(5)
    if not remembers:
        params = {name: value.clone() for name, value in params.items()}
        learner.run = lambda variables, name, x: type(learner).run(learner, variables, name, x.clone())  # type: ignore
    scores = learner.scores(params, learner.with_noise(episode))
    hook.remove()
    return sizes, {score.label: values for score, values in scores.items()}


def test_features_are_computed_once_for_all_points_of_the_adaptation_curve() -> None:
    for kind in (BaselinePlusPlus, LEO):
        learner = make_small(kind)
        sizes, scores = passes(learner, remembers=True)
        assert sizes == [5 * 6, 5 * 12]  # the support sets and the queries
        again, expected = passes(learner, remembers=False)
        assert len(again) > 2
        assert all(torch.equal(values, expected[name]) for name, values in scores.items())


def test_nothing_is_kept_of_weights_of_each_tasks_own() -> None:
    learner, episode = make_small(MAML), make_episode(3)
    params = learner.variables(3)
    *_, state = learner.adapt(params, episode.task, 2)
    expected = learner.predict(params, state, episode.query_x)
    with learner.remembering(params, episode):
        first = learner.predict(params, next(iter(learner.adapt(params, episode.task, 0))), episode.query_x)
        assert torch.equal(learner.predict(params, state, episode.query_x), expected)
        assert not torch.equal(first, expected)
