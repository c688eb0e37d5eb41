"""Whether data, learner and Trainer fit each other, checked before anything runs."""

import inspect
from typing import Any

import torch
from torch import nn

from modules.backbones.wrapped_module import check_features
from modules.functional.tasks.layout import batches_tasks
from modules.functional.tasks.per_task import layer_not_batched
from modules.learner.method import Method
from modules.learner.task_chunks import passes_of_one_task


def check_fit(learner: Method, data: Any, stage: str = "fit") -> None:
    """Checks what would otherwise fail in the middle of a run, or silently be something else than asked for.

    Args:
        learner: The learner, attached to its Trainer.
        data: The data module.
        stage: "fit", "validate", "test" or "predict".

    Raises:
        ValueError: Names what does not fit, with both values and the mend.
    """
    check_before_reading(learner, data, stage)
    if learner.outer.task_strategy == "batched":
        _check_batched(learner, data, stage)
    if learner.outer.task_strategy == "learn2learn" and not learner.in_learn2learn:
        name = type(learner).__name__
        raise ValueError(f"outer.task_strategy 'learn2learn' is MAML's, not {name}'s: leave it at 'auto'.")
    if learner.outer.cuda_graph:
        _check_recordable(learner, data)


def check_before_reading(learner: Method, data: Any, stage: str) -> None:
    """Checks what needs no example to be read: the objective, the tasks' sizes and the shape of an input.

    Args:
        learner: The learner.
        data: The data module, before or after its set-up.
        stage: "fit", "validate", "test" or "predict".

    Raises:
        ValueError: Names what does not fit, with both values and the mend.
    """
    _check_tasks(learner, data, stage)
    _check_input(learner, data)


def _check_tasks(learner: Method, data: Any, stage: str) -> None:
    """Whether the method can do what is asked, in tasks of these sizes."""
    name, data_name, objective = type(learner).__name__, type(data).__name__, data.objective.name
    if objective not in learner.objectives:
        raise ValueError(
            f"{name} is a method of {' and '.join(learner.objectives)}, but {data_name}'s tasks are {objective}: set "
            "model to one that does both, such as MAML, or data to other tasks."
        )
    if stage == "fit" and learner.trains_on == "examples" and not data.has_examples:
        raise ValueError(
            f"{name} trains on labelled examples, and {data_name} gives tasks alone: set model to a method that trains "
            "on tasks, such as ProtoNet, or data to images."
        )
    if learner.fixed_way is None:
        return
    if stage == "fit":
        _check_outputs_of_training(learner, data)
    for split, shape in data.shapes.items():
        if split != "train" and shape.n_way > learner.fixed_way:
            raise ValueError(
                f"{name} has {learner.fixed_way} outputs, one for each class that it was trained with, but the {split} "
                f"tasks have {shape.n_way} classes: set data.evaluation.n_way to {learner.fixed_way} or fewer, train "
                f"with data.n_way = {shape.n_way}, or use a method that takes any number, such as ProtoNet."
            )


def _check_outputs_of_training(learner: Method, data: Any) -> None:
    """Whether every training task has as many classes as the network has outputs."""
    name, (fewest, most) = type(learner).__name__, data.train_sizes.n_way
    if fewest < most:
        raise ValueError(
            f"{name}'s output layer has a fixed number of classes, but data.n_way = {[fewest, most]} is drawn for "
            "every batch: set it to one number, or use a method that takes any number of classes, such as ProtoNet."
        )
    if most != learner.fixed_way:
        raise ValueError(
            f"{name}'s output layer has n_way = {learner.fixed_way} classes, but the train tasks have {most}: make "
            "them equal, or use a method that takes any number of classes, such as ProtoNet."
        )


def _check_input(learner: Method, data: Any) -> None:
    expected, given = learner.input_shape, tuple(data.input_shape)
    if not given:  # known when a checkpoint is loaded, which says what the learner takes
        return
    if learner.backbone is not None:
        check_features(learner.backbone, given)
    if not expected or given == tuple(expected):
        return
    if (len(given), len(expected)) != (3, 3):
        raise ValueError(
            f"the backbone takes inputs of shape {tuple(expected)}, but {type(data).__name__} gives {given}: set "
            f"model.backbone to modules.MLP, and its input_shape to {list(given)}."
        )
    mends = [*_options_of_backbone(learner, given), *_options_of_data(data, tuple(expected))]
    raise ValueError(
        f"the backbone takes images of (channels, height, width) = {tuple(expected)}, but {type(data).__name__} "
        f"gives {given}: {', or '.join(mends) or 'use another backbone, or other data'}."
    )


def _options_of_backbone(learner: Method, given: tuple[int, ...]) -> list[str]:
    """Returns what to set so that the backbone takes images of a shape; nothing where it has no such options."""
    backbone = learner.backbone
    if backbone is None:
        return []
    kind, names = type(backbone), inspect.signature(type(backbone)).parameters
    if "input_shape" in names:
        return [f"set --model.backbone {kind.__name__} --model.backbone.input_shape {list(given)}".replace(", ", ",")]
    if not {"in_channels", "image_size"} <= names.keys() or given[1] != given[2]:
        return []
    sizes = f"--model.backbone.in_channels {given[0]} --model.backbone.image_size {given[1]}"
    return [f"set --model.backbone {kind.__name__} {sizes}"]


def _options_of_data(data: Any, expected: tuple[int, ...]) -> list[str]:
    """Returns what to set so that the data give images of a shape; nothing where they have no such options."""
    names, given = inspect.signature(type(data)).parameters, tuple(data.input_shape)
    changes = {"channels": expected[0]} if expected[0] != given[0] else {}
    changes |= {"image_size": expected[1]} if expected[1:] != given[1:] else {}
    if not changes.keys() <= names.keys() or expected[1] != expected[2]:
        return []
    return ["set " + " ".join(f"--data.{name} {number}" for name, number in changes.items())]


def _check_recordable(learner: Method, data: Any) -> None:
    """Whether outer.cuda_graph can record an outer step."""
    if data.train_sizes.vary:
        raise ValueError(
            "outer.cuda_graph records tasks of one size: set data.n_way and data.k_shot to one number each, or "
            "outer.cuda_graph to false."
        )
    if learner.outer.task_strategy == "learn2learn":
        raise ValueError("outer.cuda_graph cannot record learn2learn: leave outer.task_strategy at 'auto'.")
    if learner.changes_with_step:
        name = type(learner).__name__
        raise ValueError(
            f"outer.cuda_graph cannot record {name}, whose loss changes in the course of training: set it to false."
        )
    if learner.trainer.training and learner.trainer.strategy.root_device.type != "cuda":
        raise ValueError("outer.cuda_graph needs a GPU: set trainer.accelerator to gpu, or outer.cuda_graph to false.")


def check_trainable(learner: Method) -> None:
    """Checks that training has something to change.

    Raises:
        ValueError: If every parameter is frozen, or there is none.
    """
    if any(parameter.requires_grad for parameter in learner.parameters()):
        return
    mend = "set model.distance to cosine, whose scale is learned, or " if hasattr(learner, "distance") else ""
    raise ValueError(
        f"{type(learner).__name__} has nothing to train, as {why_nothing_moves(learner.backbone)}: {mend}give it a "
        "backbone that trains."
    )


def why_nothing_moves(backbone: nn.Module | None) -> str:
    """Why nothing of a backbone is trained, as a clause."""
    has_some = backbone is None or any(True for _ in backbone.parameters())
    return "its backbone is frozen" if has_some else "its backbone has no parameters"


def _check_batched(learner: Method, data: Any, stage: str) -> None:
    """Whether outer.task_strategy can be "batched", by a task of the data."""
    split = {"fit": "train", "validate": "val"}.get(stage, "test")
    if split not in data.shapes:  # a user's own task
        return
    weight = next(learner.parameters())
    episode = data.episode(split, torch.tensor([0])).map(lambda values: values.to(weight.device))
    episode = learner.embedded(episode.map_inputs(lambda x: x.to(weight)))
    for network, shape in passes_of_one_task(learner, learner.with_noise(episode)).networks:
        layer = layer_not_batched(network)
        if layer is not None:
            which = layer if layer.startswith("the network") else f"the network's layer {layer}"
            raise ValueError(
                f"outer.task_strategy 'batched' cannot compute {which}: leave it at 'auto', which then takes 'vmap'."
            )
        if not batches_tasks(network, shape):
            raise ValueError(
                "outer.task_strategy 'batched' fails for this network, or computes something else than a loop over the "
                "tasks, as where a network looks across its batch: leave it at 'auto', which then takes 'vmap'."
            )
