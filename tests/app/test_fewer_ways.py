"""A learner with an output for each class, evaluated with fewer classes and refused with more."""

import csv
import json
from pathlib import Path

import pytest
import torch

from datamodules.settings import Evaluation
from modules import MAML
from tests.every_learner import LEARNERS, make_small
from tests.learnable_images import TwoBlocks, make_data, make_episode
from tests.scored_tasks import score_tasks
from tests.training_runs import make_trainer


@pytest.fixture
def maml(run, tiny) -> str:
    """The last checkpoint of a 5-way MAML."""
    ended = run("fit", *tiny, "--trainer.logger=false")
    assert ended.code == 0, ended.err
    return "runs/maml_glyphs_5w1s/0/checkpoints/last.ckpt"


@pytest.mark.parametrize("option", ["--data.n_way", "--data.evaluation.n_way"])
def test_a_test_of_fewer_ways_states_both_numbers(maml: str, run, option: str):
    ended = run("test", "--ckpt_path", maml, option, "3")
    assert ended.code == 0, ended.err
    assert "3-way 1-shot, trained 5-way, transductive" in ended.out
    protocol = json.loads(Path("runs/maml_glyphs_5w1s/test_0/results.json").read_text())["protocol"]
    assert (protocol["n_way"], protocol["train_n_way"], protocol["outputs"]) == (3, 5, 5)


def test_validate_and_predict_take_fewer_ways_too(maml: str, run):
    assert run("validate", "--ckpt_path", maml, "--data.n_way", "2").code == 0
    ended = run("predict", "--ckpt_path", maml, "--data.n_way", "2")
    assert ended.code == 0, ended.err
    with Path("runs/maml_glyphs_5w1s/predict_0/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) % 2 == 0
    assert min(float(row["probability"]) for row in rows) >= 0.5


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
@pytest.mark.parametrize("option", ["--data.n_way", "--data.evaluation.n_way"])
def test_more_ways_are_one_line(maml: str, run, command: str, option: str):
    ended = run(command, "--ckpt_path", maml, option, "7")
    assert ended.code == 1
    (line,) = ended.err.splitlines()
    assert "MAML has 5 outputs, one for each class that it was trained with, but the val tasks have 7 classes" in line
    assert "set data.evaluation.n_way to 5 or fewer" in line


def test_a_fit_may_validate_with_fewer_ways(run, tiny):
    ended = run("fit", *tiny, "--trainer.logger=false", "--data.evaluation.n_way=3")
    assert ended.code == 0, ended.err
    assert "3-way 1-shot, trained 5-way" in ended.out


@pytest.mark.parametrize("kind", [kind for kind in LEARNERS if "n_way" in kind.__init__.__annotations__])
def test_only_the_first_outputs_are_used(kind):
    """Scores are those of a network from which the other outputs were cut, the loss too."""
    learner = make_small(kind, running_stats=True)
    if "classification" not in learner.objectives:
        pytest.skip("a method of regression")
    episode = make_episode(4, n_way=2)
    episode = episode._replace(task_id=torch.zeros_like(episode.task_id))  # as a classifier draws its noise
    with torch.no_grad():
        learner.get_parameter("network.head.bias")[2] = 1e3  # an unused output that would win every softmax
    scores = score_tasks(learner, episode, both_protocols=True)
    classifier = learner.classifier(episode.task)
    logits = classifier.logits(episode.query_x).double()
    log_p = logits.log_softmax(-1).gather(-1, episode.query_y.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(scores["loss"].double(), -log_p.mean(1), rtol=1e-4, atol=1e-4)
    assert float(scores["accuracy"].mean()) > 0


def test_from_python_fewer_ways_are_tested():
    data = make_data(evaluation=Evaluation(n_way=2, n_test_tasks=4))
    (scores,) = make_trainer().test(MAML(3, TwoBlocks(running_stats=True), 0.1, 2), datamodule=data, verbose=False)
    assert 0 <= scores["test/accuracy"] <= 1
