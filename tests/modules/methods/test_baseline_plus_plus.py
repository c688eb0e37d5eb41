"""Baseline++ against torch.optim.SGD and PyTorch's own weight normalisation."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.images.bank import ImageBank
from modules import BaselinePlusPlus, OuterLoop
from modules.methods.baseline_plus_plus import CosineHead
from tests.learnable_images import LearnableImages, TwoBlocks, make_data, make_episode
from tests.training_runs import make_trainer, state_of

STEPS = 5


def make(**changes: object) -> BaselinePlusPlus:
    torch.manual_seed(0)
    arguments = {"backbone": TwoBlocks(running_stats=True), "eval_inner_steps": STEPS} | changes
    return BaselinePlusPlus(**arguments)  # type: ignore[arg-type]


def cosine_layer(rows: Tensor) -> nn.Linear:
    """As the authors' distLinear: a linear layer without a bias whose weight has a length and a direction."""
    layer = nn.Linear(rows.shape[1], rows.shape[0], bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(rows)
    return nn.utils.parametrizations.weight_norm(layer, dim=0)


def fitted(learner: BaselinePlusPlus, features: Tensor, y: Tensor, noise: Tensor, passes: int) -> nn.Linear:
    """The rows of one task, fitted mini-batch by mini-batch by torch's optimiser."""
    d = features.shape[1]
    layer = cosine_layer(noise[:d, :3].T.double())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=0.001)
    unit = features / (features.norm(dim=1, keepdim=True) + 1e-5)
    for step in range(passes):
        order = noise[d + step].argsort(stable=True)
        for start in range(0, len(order), 4):
            chosen = order[start : start + 4]
            optimizer.zero_grad()
            F.cross_entropy(2 * layer(unit[chosen]), y[chosen]).backward()
            optimizer.step()
    return layer


@pytest.mark.parametrize("k_shot", [1, 3])
def test_a_task_is_fitted_as_by_torch_sgd(k_shot: int) -> None:
    learner = make().double().eval()
    episode = learner.with_noise(make_episode(4, k_shot=k_shot))
    states = list(learner.adapt(learner.variables(4), episode.task, STEPS))
    assert len(states) == STEPS + 1
    for t in range(4):
        features, queries = learner.network(episode.task.x[t]).detach(), learner.network(episode.query_x[t])
        for passes in (0, 1, STEPS):
            layer = fitted(learner, features, episode.task.y[t], episode.task.noise[t], passes)
            expected = 2 * layer(queries / (queries.norm(dim=1, keepdim=True) + 1e-5))
            logits = learner.predict(learner.variables(4), states[passes], episode.query_x)[t]
            torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)


def test_training_classifies_all_training_classes() -> None:
    learner, data = make(group_size=12).double(), make_data(meta_batch_size=2)
    trainer = make_trainer(max_steps=1, precision="64-true", limit_val_batches=0, log_every_n_steps=1)
    trainer.fit(learner, datamodule=data)
    assert learner.n_train_classes == 10
    assert isinstance(learner.head, CosineHead)
    learner.train()
    episode = data.episode("train", torch.arange(2)).map_inputs(lambda x: x.double())
    losses, logits = learner.query_loss(learner.variables(2), episode)
    for t in range(2):
        features = learner.network(episode.query_x[t])
        layer = cosine_layer(learner.head.directions.detach())
        lengths = dict(layer.named_parameters())["parametrizations.weight.original0"]  # (C, 1)
        with torch.no_grad():
            lengths.copy_(learner.head.norms.unsqueeze(1))
        expected = 2 * layer(features / (features.norm(dim=1, keepdim=True) + 1e-5))
        torch.testing.assert_close(logits[t], expected)
        torch.testing.assert_close(losses[t], F.cross_entropy(expected, episode.query_y[t]))
    assert trainer.callback_metrics.keys() >= {"train/class_loss", "train/class_accuracy"}
    assert "train/loss" not in trainer.callback_metrics  # which `val/loss` is: that of new tasks


def test_the_scale_grows_with_the_number_of_classes() -> None:
    assert [make()._scale_for(n) for n in (5, 200, 201)] == [2.0, 2.0, 10.0]
    assert make(scale=4.0)._scale_for(5) == 4.0


def test_a_checkpoint_keeps_the_size_of_the_head(tmp_path: Path) -> None:
    learner = make(group_size=12, outer=OuterLoop(lr=0.01))
    trainer = make_trainer(max_steps=2, limit_val_batches=0)
    trainer.fit(learner, datamodule=make_data(meta_batch_size=2))
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    again = BaselinePlusPlus.load_from_checkpoint(tmp_path / "c.ckpt", backbone=TwoBlocks(running_stats=True))
    assert again.n_train_classes == 10
    assert all(torch.equal(value, state_of(learner)[name]) for name, value in state_of(again).items())


def test_new_rows_are_the_same_for_a_task_however_many_are_drawn() -> None:
    learner = make().eval()
    noise = learner.draw_noise(torch.arange(6), 5, STEPS)
    assert noise.shape == (6, learner.feature_dim + STEPS, 5)
    assert torch.equal(learner.draw_noise(torch.tensor([4]), 5, STEPS)[0], noise[4])
    of_more_examples = learner.draw_noise(torch.arange(6), 7, STEPS)
    assert torch.equal(of_more_examples[:, : learner.feature_dim, :5], noise[:, : learner.feature_dim])
    rows = learner.draw_noise(torch.arange(2000), 1, 0) * learner.feature_dim**0.5  # uniform in [-1, 1)
    assert abs(float(rows.mean())) < 0.01
    assert abs(float(rows.square().mean()) - 1 / 3) < 0.01


@pytest.mark.parametrize(
    ("name", "value"), [("momentum", 1.5), ("weight_decay", -1.0), ("group_size", 0), ("scale", 0)]
)
def test_a_wrong_setting_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        make(**{name: value})


def test_data_without_labelled_examples_are_refused() -> None:
    from datamodules import Sinusoid

    with pytest.raises(ValueError, match=r"BaselinePlusPlus is a method of classification, but Sinusoid's tasks are"):
        make_trainer().fit(make(), datamodule=Sinusoid())


def test_a_training_on_other_classes_is_not_resumed(tmp_path: Path) -> None:
    class Fewer(LearnableImages):
        def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
            return super().split_classes(bank) | {"train": [0, 3, 6]}

    trainer = make_trainer(max_steps=2, limit_val_batches=0)
    trainer.fit(make(group_size=12), datamodule=make_data(meta_batch_size=2))
    trainer.save_checkpoint(tmp_path / "c.ckpt")
    with pytest.raises(
        ValueError, match=r"^the checkpoint was trained on 10 classes, and the data have 3: fit without"
    ):
        make_trainer(max_steps=4, limit_val_batches=0).fit(
            make(group_size=12), datamodule=Fewer(n_way=3), ckpt_path=tmp_path / "c.ckpt", weights_only=True
        )
