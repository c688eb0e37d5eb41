"""Whether data, learner and Trainer fit each other, checked before anything runs."""

from typing import TYPE_CHECKING, Any

import torch

from modules.functional.per_task import layer_without_task_form
from modules.functional.task_layout import batches_tasks
from modules.wrapped_module import check_features

if TYPE_CHECKING:
    from modules.base import Learner


def check_fit(learner: "Learner", data: Any) -> None:
    """Checks what would otherwise fail in the middle of a run, or silently be something else than asked for.

    Args:
        learner: The learner, attached to its Trainer.
        data: The data module.

    Raises:
        ValueError: Names what does not fit, with both values and the mend.
    """
    _check_tasks(learner, data)
    _check_input(learner, data)
    if learner.outer.task_strategy == "batched":
        _check_batched(learner)
    if learner.outer.task_strategy == "learn2learn" and not learner.in_learn2learn:
        name = type(learner).__name__
        raise ValueError(f"outer.task_strategy 'learn2learn' is MAML's, not {name}'s: leave it at 'auto'.")
    if learner.outer.cuda_graph:
        _check_recordable(learner, data)


def _check_tasks(learner: "Learner", data: Any) -> None:
    """Whether the method can do what is asked, in tasks of these sizes."""
    name, data_name, objective = type(learner).__name__, type(data).__name__, data.objective.name
    if objective not in learner.objectives:
        raise ValueError(
            f"{name} is a method of {' and '.join(learner.objectives)}, but {data_name}'s tasks are {objective}: set "
            "model to one that does both, such as MAML, or data to other tasks."
        )
    if learner.fixed_way is None:
        return
    fewest, most = data.train_sizes.n_way
    if fewest < most:
        raise ValueError(
            f"{name}'s output layer has a fixed number of classes, but data.n_way = {[fewest, most]} is drawn for "
            "every batch: set it to one number, or use a method that takes any number of classes, such as ProtoNet."
        )
    for split, shape in data.shapes.items():
        if shape.n_way != learner.fixed_way:
            raise ValueError(
                f"{name}'s output layer has n_way = {learner.fixed_way} classes, but the {split} tasks have "
                f"{shape.n_way}: make them equal, or use a method that takes any number of classes, such as ProtoNet."
            )


def _check_input(learner: "Learner", data: Any) -> None:
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
    raise ValueError(
        f"the backbone takes images of (channels, height, width) = {tuple(expected)}, but {type(data).__name__} "
        f"gives {given}: set the backbone's in_channels and image_size, or its input_shape, or the data's image_size."
    )


def _check_recordable(learner: "Learner", data: Any) -> None:
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


def check_trainable(learner: "Learner") -> None:
    """Checks that training has something to change.

    Raises:
        ValueError: If every parameter is frozen.
    """
    if any(parameter.requires_grad for parameter in learner.parameters()):
        return
    mend = "set model.distance to cosine, whose scale is learned, or " if hasattr(learner, "distance") else ""
    raise ValueError(
        f"{type(learner).__name__} has nothing to train, as its backbone is frozen: {mend}set the backbone's frozen to "
        "false."
    )


def _check_batched(learner: "Learner") -> None:
    layer, shape = layer_without_task_form(learner.network), learner.input_shape
    if layer is not None:
        raise ValueError(
            f"outer.task_strategy 'batched' cannot compute the network's layer {layer}: leave it at 'auto', which "
            "then takes 'vmap'."
        )
    if shape and not batches_tasks(learner.network, torch.Size(shape)):
        raise ValueError(
            "outer.task_strategy 'batched' fails for this network, or computes something else than a loop over the "
            "tasks, as where a network looks across its batch: leave it at 'auto', which then takes 'vmap'."
        )
