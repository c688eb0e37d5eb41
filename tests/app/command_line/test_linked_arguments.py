"""A learner's arguments follow those that the data have by the same name."""

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml

from app.checkpoints.linked_options import NOT_LINKED
from app.command_line.linked_arguments import linked_names
from datamodules.episode_data import EpisodeDataModule
from datamodules.tasks.task_sizes import Count
from modules import Backbone, Conv4, Learner, OuterLoop, ProtoNet
from modules.learner.class_paths import subclasses

ME = f"--model={__name__}.WithShots"
SMALL = (
    "--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.logger=false",
    "--data=Glyphs", "--data.n_query=1", "--data.meta_batch_size=1", "--data.evaluation.n_val_tasks=2",
    "--data.evaluation.n_test_tasks=2",
)  # fmt: skip


class WithShots(ProtoNet):
    """A ProtoNet that is told how many examples of a class it is shown."""

    built: list[int] = []  # noqa: RUF012  # of all learners

    def __init__(self, k_shot: int = 7, backbone: Backbone | None = None, outer: OuterLoop = OuterLoop()) -> None:
        super().__init__(Conv4(filters=4, image_size=28), outer)
        self.save_hyperparameters(ignore=["backbone"])
        self.shots = torch.nn.Parameter(torch.zeros(k_shot))  # of a size that a checkpoint keeps
        self.built.append(k_shot)


@pytest.fixture(autouse=True)
def nothing_built() -> None:
    WithShots.built.clear()


@pytest.mark.parametrize(("given", "shots"), [("3", 3), ("[1, 5]", 5)])
def test_a_learner_is_given_the_shots_of_the_data(run, given: str, shots: int) -> None:
    ended = run("fit", ME, *SMALL, f"--data.k_shot={given}", "--data.evaluation.k_shot=2")
    assert ended.code == 0, ended.err
    assert set(WithShots.built) == {shots}
    (config,) = Path("runs").glob("*/0/config.yaml")
    assert yaml.safe_load(config.read_text())["model"]["init_args"]["k_shot"] == shots


def test_a_checkpoint_keeps_its_own_and_a_training_on_it_follows_the_data(run) -> None:
    assert run("fit", ME, *SMALL, "--data.k_shot=3").code == 0
    (trained,) = Path("runs").glob("*/0")
    WithShots.built.clear()
    for command in ("test", "validate"):
        ended = run(command, f"--ckpt_path={trained}", "--data.k_shot=2")
        assert ended.code == 0, ended.err
        assert json.loads((trained.parent / f"{command}_0" / "results.json").read_text())["protocol"]["k_shot"] == 2
    ended = run("test", f"--ckpt_path={trained}", ME)
    assert ended.code == 0, ended.err
    assert set(WithShots.built) == {3}
    ended = run("fit", f"--ckpt_path={trained}", "--data.k_shot=2", "--trainer.max_steps=3")
    assert ended.code == 0, ended.err
    assert WithShots.built[-1] == 2
    assert "data.k_shot 3 -> 2" in ended.out
    assert "model.k_shot" not in ended.out


def test_a_users_own_classes_find_the_checkpoint_as_it_was_trained(run, tmp_path: Path) -> None:
    from tests.app.user_classes.test_export import write_support

    assert run("fit", ME, *SMALL, "--data.k_shot=3").code == 0
    (trained,) = Path("runs").glob("*/0")
    WithShots.built.clear()
    mine = str(write_support(tmp_path / "mine", {"cat": 2, "owl": 1}))
    own = ("--data=SupportQuery", f"--data.support={mine}", f"--data.query={mine}")
    ended = run("predict", f"--ckpt_path={trained}", *own)
    assert ended.code == 0, ended.err
    assert set(WithShots.built) == {3}


@pytest.mark.parametrize("option", ["--model.k_shot=4", "--model.init_args.k_shot=4"])
def test_a_linked_option_is_refused_in_one_line(run, option: str) -> None:
    ended = run("fit", ME, *SMALL, option)
    assert ended.code == 2
    assert ended.err == "error: --model.k_shot follows --data.k_shot: set that one\n"
    assert not Path("runs").exists()


def test_a_learner_that_nobody_has_imported_is_found_by_the_command_line(run, tmp_path: Path, monkeypatch) -> None:
    source = f"from {__name__} import WithShots\nclass Queries(WithShots):\n"
    source += "    def __init__(self, n_query: int = 9) -> None:\n"
    source += "        super().__init__()\n        assert n_query == 1\n"
    (tmp_path / "of_a_user.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    ended = run("fit", "--model=of_a_user.Queries", *SMALL, "--model.n_query=3")
    assert ended.err == "error: --model.n_query follows --data.n_query: set that one\n"
    Path("own.yaml").write_text(json.dumps({"model": {"class_path": "of_a_user.Queries"}}))
    ended = run("fit", "--config=own.yaml", *SMALL)
    assert ended.code == 0, ended.err


def test_ways_are_linked_and_what_means_another_thing_is_not() -> None:
    assert "n_way" in linked_names()
    assert NOT_LINKED.isdisjoint(linked_names())


def test_linked_arguments_are_of_one_type() -> None:
    """A new learner or data set with an argument of another meaning fails here: give it another name."""
    wrong = []
    for name in linked_names():
        of_data = {found for kind in own(EpisodeDataModule) if (found := annotation(kind, name))}
        of_learners = {str(kind): found for kind in own(Learner) if (found := annotation(kind, name))}
        for source in of_data - {Literal[1]}:  # the classes of a regression
            fitting = (int, int | None) if source == Count else (source, source | None)
            wrong += [(name, kind) for kind, target in of_learners.items() if target not in fitting]
    assert wrong == []


def own(base: type[Any]) -> list[type[Any]]:
    """The classes of this project below a base."""
    return [kind for kind in (base, *subclasses(base)) if kind.__module__.startswith(("modules.", "datamodules."))]


def annotation(kind: type[Any], name: str) -> Any:
    return kind.__init__.__annotations__.get(name)
