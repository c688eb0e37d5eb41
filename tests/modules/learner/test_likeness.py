"""How like the known images an image is: the arithmetic, and the features of every learner."""

import pytest
import torch

from modules import MAML, MLP, ProtoNet
from modules.functional.likeness import distance_to_known, fit_whitening, map_statistics, share_as_far
from modules.learner.likeness import LikenessFeatures
from tests.every_learner import LEARNERS, make_small
from tests.learnable_images import TwoBlocks, make_episode


def test_white_features_are_white() -> None:
    torch.manual_seed(0)
    features = torch.randn(4000, 6) * 5 + 3
    mean, transform = fit_whitening(features)
    white = (features - mean) @ transform
    torch.testing.assert_close(white.mean(0), torch.zeros(6), atol=1e-3, rtol=0)
    assert float((white.T @ white / len(white)).diagonal().mean()) == pytest.approx(1, abs=0.1)
    many, constant = fit_whitening(torch.randn(50, 200))[1], fit_whitening(torch.ones(9, 3))[1]
    assert many.shape == (200, 64)
    assert bool(constant.isfinite().all())


def test_statistics_are_those_of_each_channel() -> None:
    maps = torch.randn(3, 5, 4, 2)
    expected = torch.stack([torch.cat([m.mean((1, 2)), m.flatten(1).std(1, correction=0)]) for m in maps])
    torch.testing.assert_close(map_statistics(maps), expected)
    torch.testing.assert_close(map_statistics(maps.flatten(2).transpose(1, 2)), expected)
    assert torch.equal(map_statistics(maps[:, :, 0, 0]), maps[:, :, 0, 0])


def test_far_is_what_is_far_from_the_support_or_from_all() -> None:
    support, k = torch.full((2, 4), 30.0), 4
    near_both = distance_to_known(torch.zeros(1, k), torch.zeros(2, k))
    from_support = distance_to_known(torch.zeros(1, k), support)
    with_support_but_from_all = distance_to_known(support[:1], support)
    assert float(near_both) == 0
    assert float(from_support) > 10
    assert float(with_support_but_from_all) > 10
    known = torch.tensor([3.0, 1.0, 2.0, 4.0])
    assert share_as_far(torch.tensor([0.0, 2.0, 4.5]), known).tolist() == pytest.approx([1.0, 0.8, 0.2])


@pytest.mark.parametrize("running_stats", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in LEARNERS if "classification" in kind.objectives])
def test_every_learner_has_features_of_each_image_alone(kind, running_stats: bool) -> None:
    learner = make_small(kind, running_stats)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    episode = make_episode(20)
    tasks = list(zip(episode.task.x, episode.query_x, strict=True))
    features = LikenessFeatures(learner)
    features.learn(maps for task in tasks for maps in features.maps(*task))
    support, queries = tasks[0]
    known, together = features(support, queries)
    torch.testing.assert_close(torch.cat([features(support, query[None])[1] for query in queries]), together)
    again = LikenessFeatures(learner, features.state())
    torch.testing.assert_close(again(support, queries), (known, together))
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    unlike = features(support, torch.rand(10, 1, 8, 8) * 20)[1]
    assert float(distance_to_known(unlike, known).min()) > float(distance_to_known(together, known).max())


def test_a_network_without_normalisation_has_features_too() -> None:
    features = LikenessFeatures(MAML(3, MLP([1, 8, 8], [12, 12])))
    features.learn(features.maps(torch.rand(20, 1, 8, 8), torch.rand(20, 1, 8, 8)))
    assert features(torch.rand(3, 1, 8, 8), torch.rand(2, 1, 8, 8))[1].shape == (2, 36)


def test_a_layer_that_is_passed_twice_is_looked_at_once() -> None:
    class Twice(TwoBlocks):
        def embed(self, images: torch.Tensor) -> torch.Tensor:
            self.again = self.layers[1](self.layers[1](self.layers[0](images)))
            return super().embed(images)

    features = LikenessFeatures(ProtoNet(Twice(running_stats=True)))
    features.learn(features.maps(torch.rand(20, 1, 8, 8), torch.rand(20, 1, 8, 8)))
    assert len(features(torch.rand(3, 1, 8, 8), torch.rand(70, 1, 8, 8))[1]) == 70
