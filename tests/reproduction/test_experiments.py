"""Experiments name configurations that are there, of the tasks in their names, with the figures in their heads."""

import re

import pytest

from reproduction.experiments import EXPERIMENTS, TASKS, Experiment
from reproduction.shipped import ROOT, deviations, head_of

OWN = [experiment for experiment in EXPERIMENTS.values() if experiment.test_options is None and experiment.published]


def option(options: tuple[str, ...], name: str) -> str | None:
    return options[options.index(name) + 1] if name in options else None


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda experiment: experiment.name)
def test_an_experiment_is_tested_on_the_task_of_its_name(experiment: Experiment, settings) -> None:
    data = settings(experiment.config)["data"]["init_args"]
    asked = (*experiment.options, *(experiment.test_options or ()))
    evaluation = data["evaluation"]
    way = option(asked, "--data.evaluation.n_way") or evaluation.get("n_way", data["n_way"])
    shot = option(asked, "--data.evaluation.k_shot") or evaluation.get("k_shot", data["k_shot"])
    assert f"{way}w{shot}s" == experiment.task
    assert (option(asked, "--data.split") or data["split"]) in experiment.name or data["split"] == "vinyals"


@pytest.mark.parametrize("experiment", OWN, ids=lambda experiment: experiment.name)
def test_an_experiment_has_the_figures_of_its_configuration_s_head(experiment: Experiment) -> None:
    stated = re.search(r"Paper: ([\s\S]*?) ?%(?:, transductive ([\d.]+ \+- [\d.]+) %)?", head_of(experiment.config))
    assert stated is not None
    written = [[float(number) for number in figure.split(" +- ")] for figure in stated.groups() if figure]
    assert written == [[n for n in (paper.accuracy, paper.ci95) if n is not None] for paper in experiment.published]


@pytest.mark.parametrize("experiment", OWN, ids=lambda experiment: experiment.name)
def test_every_paper_is_deviated_from_in_some_way(experiment: Experiment) -> None:
    found = deviations(experiment.config)
    assert found
    assert all(line.endswith((".", ")")) for line in found)


def test_every_omniglot_configuration_of_a_published_figure_is_an_experiment() -> None:
    """ProtoNet's and Reptile's share trainings; a head without "Paper: N %" has no figure to reach."""
    paths = [path for path in (ROOT / "configs").glob("*.yaml") if "omniglot" in path.stem]
    named = {path.stem: re.search(r"Paper: \d", path.read_text("utf-8")) for path in paths}
    published = {experiment.name for experiment in EXPERIMENTS.values() if experiment.published}
    not_yet = {"imaml_omniglot_5w1s"}  # whose figure takes sixteen inner steps for each of 20,000 outer ones
    assert {stem for stem, figure in named.items() if figure} == published | not_yet


def test_trainings_that_cells_share_differ_in_nothing_but_the_test(settings) -> None:
    """An experiment's own configuration, where it has one, is the shared one with the experiment's test."""
    for experiment in EXPERIMENTS.values():
        if experiment.test_options is None or not experiment.published:
            continue
        own, shared = settings(experiment.name), settings(experiment.config)
        way_shot = {
            name: int(value)
            for name in ("n_way", "k_shot")
            if (value := option(experiment.test_options, f"--data.evaluation.{name}"))
        }
        assert own["data"]["init_args"]["evaluation"] | {"n_val_tasks": 0} == shared["data"]["init_args"][
            "evaluation"
        ] | way_shot | {"n_val_tasks": 0}
        for side in (own, shared):
            side["data"]["init_args"].pop("evaluation")
        assert own == shared


def test_three_seeds_for_five_way_one_shot() -> None:
    assert [len(EXPERIMENTS[f"maml_omniglot_{task}"].seeds) for task in TASKS] == [3, 1, 1, 1]
