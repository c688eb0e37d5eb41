"""The rule of what a checkpoint begins: the same run goes on, or a new run. docs/operations.md shows it as a table."""

import dataclasses
import enum
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import datamodules
import modules
from app.checkpoints.linked_options import LINKED, follows_the_data
from modules.learner.outer_loop import ENDLESS_SCHEDULES

# Options in which one run may differ from start to start: where it is computed, what is shown of it, how long it takes.
SAME_RUN = (
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.default_root_dir",
    "trainer.logger",
    "trainer.profiler",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.max_time",
    "trainer.limit_val_batches",
    "trainer.limit_test_batches",
    "trainer.limit_predict_batches",
    "data.root",
    "data.cache",
    "data.train_list",
    "data.val_list",
    "data.test_list",
    "data.loading.images_on",
    "data.loading.num_workers",
    "data.loading.cache_features",
    "data.evaluation.n_val_tasks",
    "data.evaluation.n_test_tasks",
    "data.evaluation.batch_size",
    "checkpoint.every_minutes",
)
LENGTH = "trainer.max_steps"  # may differ too, where the schedule's learning rates do not depend on it
BACKBONE, WEIGHTS, OPTIMIZER = "model.backbone", "model.backbone.weights", "model.outer.optimizer"
NOT_COMPARED = ("ckpt_path", "config", "resume", "weights_only")  # of the command, not of the run
SAYS_NOTHING = (*LINKED, "data.download")  # options that follow others, or only say whether data may be fetched

Shapes = Mapping[str, tuple[int, ...]]


class Beginning(enum.Enum):
    """The three ways in which training can begin at a checkpoint."""

    SAME_RUN = "the same run goes on in its folder"
    AT_ITS_STEP = "a new run at the checkpoint's step, with its weights and optimizer state"
    AT_STEP_0 = "a new run at step 0, from the weights that fit"


@dataclass(frozen=True)
class Training:
    """A training, described by all that decides what it computes.

    Args:
        config: The resolved configuration.
        data: What the data are, `EpisodeDataModule.identity()`; "" where that is not known.
        shapes: The names and shapes of the learner's weights and buffers.
    """

    config: dict[str, Any]
    data: str
    shapes: Shapes


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was.

    Args:
        name: The option, e.g. "model.outer.lr"; "model" and "data" stand for their classes.
        before: Its former value, as a configuration writes it.
        now: Its present one.
    """

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return self.name if self.before is self.now is None else f"{self.name} {self.before} -> {self.now}"


def beginning_of(before: Training, now: Training, is_newest: bool = True) -> tuple[Beginning, list[Difference]]:
    """Decides what a checkpoint begins.

    Args:
        before: The training that wrote the checkpoint.
        now: The training that is asked for.
        is_newest: Whether the checkpoint is the newest state of a run whose folder is known.

    Returns:
        What it begins, and every difference between the two.

    Raises:
        ValueError: If the optimizer differs, whose state the new run would take over.
    """
    found = differences(before.config, now.config)
    if before.data != now.data and before.data and now.data and not any(d.name == "data" for d in found):
        found.insert(0, Difference("the images or classes of the data", None, None))
        other_data = True
    else:
        other_data = any(d.name == "data" for d in found)
    other_network = before.shapes != now.shapes or any(_is_network(d.name) for d in found)
    if other_data or other_network or any(d.name == "model" for d in found):
        return Beginning.AT_STEP_0, found
    for difference in found:
        if difference.name == OPTIMIZER:
            raise ValueError(
                f"{difference}: the checkpoint holds the state of {difference.before}, which {difference.now} cannot "
                f"use. Leave {OPTIMIZER} as it was, or leave --ckpt_path out and begin from the checkpoint's "
                f"weights by --{WEIGHTS}."
            )
    if is_newest and all(_may_differ(difference.name, now.config) for difference in found):
        return Beginning.SAME_RUN, found
    return Beginning.AT_ITS_STEP, found


def is_same_run(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Tells whether two configurations are of one run. They do not say what the images are, which is compared apart."""
    return all(_may_differ(difference.name, now) for difference in differences(before, now))


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[Difference]:
    """Lists the differences of two configurations by the options' names.

    An option that the former one does not have must be at its default: an earlier version did not know it. Where two
    classes differ, only the arguments that both have are compared.

    Args:
        before: The former configuration, or some of its sections.
        now: The present one.
    """
    found: list[Difference] = []
    for name in before.keys() & now.keys() - set(NOT_COMPARED):
        found += _compare(name, before[name], now[name], {})
    own = [d for d in found if d.name not in SAYS_NOTHING and not follows_the_data(d.name, now)]
    return sorted(own, key=lambda difference: (difference.name not in ("model", "data"), difference.name))


def unexpected_length(step: int, max_steps: int, beginning: Beginning) -> str | None:
    """Why a run of `max_steps` outer steps cannot begin at `step`; None where it can.

    A run that is done may be asked for again: it is tested once more.
    """
    done = step > max_steps if beginning is Beginning.SAME_RUN else step >= max_steps
    if beginning is Beginning.AT_STEP_0 or max_steps < 0 or not done:
        return None
    return f"the checkpoint is at step {step:,}, and trainer.max_steps is {max_steps:,}: set --trainer.max_steps higher"


def _may_differ(name: str, now: dict[str, Any]) -> bool:
    if name == LENGTH:
        outer = ((now.get("model") or {}).get("init_args") or {}).get("outer") or {}
        return outer.get("schedule", "constant") in ENDLESS_SCHEDULES
    return name in SAME_RUN


def _is_network(name: str) -> bool:
    return name == BACKBONE or (name.startswith(f"{BACKBONE}.") and name != WEIGHTS)


def _compare(name: str, before: Any, now: Any, defaults: Mapping[str, Any]) -> list[Difference]:
    """The differences under one name; `defaults` are those of the options inside it, where they are known."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [Difference(name, _shown(before), _shown(now))]
    if "class_path" in before and "class_path" in now:
        return _compare_classes(name, before, now)
    found: list[Difference] = []
    for option, value in now.items():
        inner = _fields(defaults.get(option))
        if option in before:
            found += _compare(f"{name}.{option}", before[option], value, inner)
        elif option in defaults:
            found += _compare(f"{name}.{option}", plain(defaults[option]), value, inner)
    return found


def _compare_classes(name: str, before: dict[str, Any], now: dict[str, Any]) -> list[Difference]:
    old, new = (str(part["class_path"]).rpartition(".")[2] for part in (before, now))
    former, present = (dict(part.get("init_args") or {}) for part in (before, now))
    if old == new:
        return _compare(name, former, present, _defaults(new))
    shared = former.keys() & present.keys()
    former, present = ({n: v for n, v in part.items() if n in shared} for part in (former, present))
    return [Difference(name, old, new), *_compare(name, former, present, {})]


def _defaults(class_name: str) -> dict[str, Any]:
    """The defaults of a learner's, backbone's or data set's arguments; of a class of the user's own none are known."""
    kind = getattr(modules, class_name, None) or getattr(datamodules, class_name, None)
    if not isinstance(kind, type):
        return {}
    parameters = inspect.signature(kind).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def _fields(default: Any) -> Mapping[str, Any]:
    """The defaults inside a default: those of a settings object's fields."""
    return vars(default) if dataclasses.is_dataclass(default) and not isinstance(default, type) else {}


def plain(default: Any) -> Any:
    """A default as a configuration writes it."""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return {name: plain(value) for name, value in vars(default).items()}
    return list(default) if isinstance(default, tuple) else default


def _shown(value: Any) -> Any:
    """A value in a line: a class by its name."""
    return value["class_path"].rpartition(".")[2] if isinstance(value, dict) and "class_path" in value else value
