"""The rule of what a checkpoint begins, and the table in docs/operations.md that shows it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.checkpoints.resumable_runs import find_runs
from app.checkpoints.resume_decision import SAME_RUN, Beginning, Training, beginning_of, unexpected_length

CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "class_path": "modules.MAML",
        "init_args": {
            "n_way": 5,
            "backbone": {"class_path": "modules.Conv4", "init_args": {"filters": 64, "weights": None, "frozen": False}},
            "inner_lr": 0.4,
            "outer": {"optimizer": "adam", "lr": 1e-3, "schedule": "constant"},
        },
    },
    "data": {
        "class_path": "datamodules.Omniglot",
        "init_args": {
            "n_way": 5,
            "seed": 0,
            "meta_batch_size": 32,
            "root": "data",
            "split": "vinyals",
            "evaluation": {"n_way": None, "n_val_tasks": 200},
        },
    },
    "trainer": {"max_steps": 100, "max_time": None, "devices": 1, "precision": None, "limit_val_batches": None},
    "checkpoint": {"monitor": None, "every_minutes": 5.0},
}
SHAPES = {"network.head.weight": (5, 64)}
BEFORE = Training(CONFIG, "images", SHAPES)

GOES_ON, AT_ITS_STEP, AT_STEP_0 = Beginning.SAME_RUN, Beginning.AT_ITS_STEP, Beginning.AT_STEP_0


def changed(place: str, value: object, config: dict[str, Any] = CONFIG) -> dict[str, Any]:
    config = copy.deepcopy(config)
    *parts, last = place.split("/")
    inside = config
    for part in parts:
        inside = inside[part]
    inside[last] = value
    return config


CHANGES = [
    ("trainer/max_steps", 200, GOES_ON),
    ("trainer/max_time", "00:01:00:00", GOES_ON),
    ("trainer/devices", 4, GOES_ON),
    ("trainer/limit_val_batches", 1, GOES_ON),
    ("data/init_args/root", "elsewhere", GOES_ON),
    ("data/init_args/evaluation/n_val_tasks", 10, GOES_ON),
    ("checkpoint/every_minutes", 1.0, GOES_ON),
    ("checkpoint/monitor", "val/accuracy", AT_ITS_STEP),
    ("seed_everything", 1, AT_ITS_STEP),
    ("checkpoint/monitor", "val/loss", AT_ITS_STEP),
    ("trainer/precision", "bf16-mixed", AT_ITS_STEP),
    ("model/init_args/inner_lr", 0.1, AT_ITS_STEP),
    ("model/init_args/outer/lr", 1e-4, AT_ITS_STEP),
    ("model/init_args/outer/schedule", "cosine", AT_ITS_STEP),
    ("data/init_args/meta_batch_size", 16, AT_ITS_STEP),
    ("data/init_args/evaluation/n_way", 20, AT_ITS_STEP),
    ("model/init_args/backbone/init_args/filters", 32, AT_STEP_0),
    ("model/init_args/backbone/init_args/frozen", True, AT_STEP_0),
    ("model/init_args/backbone/class_path", "modules.ResNet12", AT_STEP_0),
    ("model/class_path", "modules.ANIL", AT_STEP_0),
    ("data/class_path", "datamodules.Glyphs", AT_STEP_0),
    # Options that the checkpoint's version did not have.
    ("data/init_args/resize", "lanczos", GOES_ON),
    ("data/init_args/resize", "nearest", AT_ITS_STEP),
    ("data/init_args/evaluation/seed", 0, GOES_ON),
    ("data/init_args/evaluation/seed", 1, AT_ITS_STEP),
    ("model/init_args/adapt_norm", True, GOES_ON),
    ("model/init_args/adapt_norm", False, AT_ITS_STEP),
    ("model/init_args/outer/clip_norm", None, GOES_ON),
    ("model/init_args/outer/clip_norm", 1.0, AT_ITS_STEP),
    ("a_section_of_its_own", {"x": 1}, GOES_ON),
]


@pytest.mark.parametrize(("place", "value", "begins"), CHANGES)
def test_what_a_changed_option_begins(place: str, value: object, begins: Beginning) -> None:
    beginning, found = beginning_of(BEFORE, Training(changed(place, value), "images", SHAPES))
    assert beginning is begins
    if begins is not GOES_ON:
        assert len(found) == 1
        assert str(found[0]).startswith(place.replace("/init_args", "").replace("/class_path", "").replace("/", "."))


def test_nothing_changed_is_the_same_run_unless_the_checkpoint_is_an_older_one() -> None:
    assert beginning_of(BEFORE, BEFORE) == (GOES_ON, [])
    assert beginning_of(BEFORE, BEFORE, is_newest=False) == (AT_ITS_STEP, [])


def test_other_images_are_other_data_wherever_they_lie() -> None:
    beginning, found = beginning_of(BEFORE, Training(CONFIG, "other images", SHAPES))
    assert beginning is AT_STEP_0
    assert [str(difference) for difference in found] == ["the images or classes of the data"]


def test_a_network_of_other_shapes_is_another_network_whatever_the_options_say() -> None:
    assert beginning_of(BEFORE, Training(CONFIG, "images", {"network.head.weight": (20, 64)}))[0] is AT_STEP_0


def test_a_schedule_that_ends_with_the_training_belongs_to_its_length() -> None:
    cosine = changed("model/init_args/outer/schedule", "cosine")
    before = Training(cosine, "images", SHAPES)
    longer = Training(changed("trainer/max_steps", 200, cosine), "images", SHAPES)
    assert beginning_of(before, longer)[0] is AT_ITS_STEP


def test_another_optimizer_is_refused_where_its_state_would_be_used() -> None:
    sgd = changed("model/init_args/outer/optimizer", "sgd")
    with pytest.raises(
        ValueError, match=r"model\.outer\.optimizer adam -> sgd: the checkpoint holds the state of adam"
    ):
        beginning_of(BEFORE, Training(sgd, "images", SHAPES))
    assert beginning_of(BEFORE, Training(sgd, "other images", SHAPES))[0] is AT_STEP_0


def test_classes_come_first_and_options_that_follow_others_are_not_named() -> None:
    now = changed("data/class_path", "datamodules.Glyphs", changed("data/init_args/n_way", 20))
    now["model"]["init_args"]["n_way"] = 20
    _, found = beginning_of(BEFORE, Training(now, "", SHAPES))
    assert [str(difference) for difference in found] == ["data Omniglot -> Glyphs", "data.n_way 5 -> 20"]


@pytest.mark.parametrize(
    ("step", "max_steps", "beginning", "refused"),
    [
        (100, 100, GOES_ON, False),  # it is tested again
        (101, 100, GOES_ON, True),
        (100, 100, AT_ITS_STEP, True),
        (99, 100, AT_ITS_STEP, False),
        (100, 10, AT_STEP_0, False),
        (100, -1, AT_ITS_STEP, False),
    ],
)
def test_a_run_cannot_begin_behind_its_end(step: int, max_steps: int, beginning: Beginning, refused: bool) -> None:
    assert (unexpected_length(step, max_steps, beginning) is not None) == refused


def test_the_documentation_names_every_option_in_which_one_run_may_differ() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| nothing, or only"))
    named = {word for word in row.split("`") if "." in word and " " not in word}
    assert named == {*SAME_RUN, "trainer.max_steps", "model.outer.schedule"}


def write(root: Path, number: int, config: dict[str, Any]) -> None:
    folder = root / "x" / str(number)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def test_the_runs_that_a_command_may_go_on_with(tmp_path: Path) -> None:
    for number, steps in enumerate([100, 50, 70, 200, 100]):
        write(tmp_path, number, changed("trainer/max_steps", steps))
    write(tmp_path, 5, changed("model/init_args/inner_lr", 0.1))
    write(tmp_path, 6, CONFIG | {"ckpt_path": "another/run.ckpt"})
    found = [int(run.path.name) for run in find_runs(tmp_path, "x", CONFIG)]
    assert found == [4, 0, 2, 1]  # as long, the newest first; then shorter ones, the longest first
    cosine = changed("model/init_args/outer/schedule", "cosine")
    write(tmp_path, 7, changed("trainer/max_steps", 50, cosine))
    assert find_runs(tmp_path, "x", cosine) == []  # its learning rates were others
