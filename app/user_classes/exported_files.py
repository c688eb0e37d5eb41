"""Writes a classifier as files that run without this program, and checks that they answer as it does."""

import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from modules.functional.matmul_precision import exact_products
from modules.learner.exported_classifier import ExportedClassifier

OPSET = 18
TOLERANCE = 1e-4  # in probabilities, between a file and PyTorch
AXES = {0: "batch", 2: "height", 3: "width"}  # of the images, all of any size
# (batch, height, width): one image and several, one pixel, one line, larger and smaller than networks take.
CHECKED_SIZES = ((1, 1, 1), (1, 40, 30), (2, 30, 47), (3, 84, 84), (5, 1, 9), (2, 300, 200))


def trace(classifier: ExportedClassifier) -> ExportedProgram:
    """Records the classifier's operations, for batches and images of any size."""
    images = torch.zeros(2, 3, 50, 60, dtype=torch.uint8)
    shapes = {"images": {axis: Dim(name) for axis, name in AXES.items()}}
    with _quiet(), torch.no_grad():
        program = torch.export.export(classifier, (images,), dynamic_shapes=shapes, strict=False)
    buffers = program.graph_signature.inputs_to_buffers
    for node in program.graph.nodes:
        if node.name in buffers and not node.users:  # as the weights that adaptation began from: half of the file
            program.state_dict[buffers[node.name]] = torch.zeros(0)
    return program


def write_torch_export(
    classifier: ExportedClassifier, program: ExportedProgram, path: Path, metadata: dict[str, str]
) -> float:
    """Writes what `torch.export.load` reads in any Python with PyTorch.

    Args:
        classifier: What the file must answer like.
        program: Its trace.
        path: The file, .pt2.
        metadata: Texts by name that go into the file; `torch.export.load` gives them as `extra_files`.

    Returns:
        The largest difference in probabilities that was found.

    Raises:
        RuntimeError: If the file answers otherwise; it is removed.
    """
    with _checked_file(path) as part, _quiet():
        torch.export.save(program, part, extra_files=dict(metadata))
        loaded = torch.export.load(part).module()
        return largest_difference(classifier, loaded, path.name)


def write_onnx(classifier: ExportedClassifier, program: ExportedProgram, path: Path, metadata: dict[str, str]) -> float:
    """Writes what ONNX Runtime reads: `images` uint8 (batch, 3, height, width) to `probabilities` (batch, n_way).

    Args:
        classifier: What the file must answer like.
        program: Its trace.
        path: The file, .onnx.
        metadata: Texts by name that go into the file as its `metadata_props`.

    Returns:
        The largest difference in probabilities that was found.

    Raises:
        RuntimeError: If the file answers otherwise; it is removed.
    """
    import onnx  # these three take seconds
    import onnxruntime  # type: ignore[import-untyped]

    with _checked_file(path) as part, _quiet():
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, output_names=["probabilities"], verbose=False
        )
        assert exported is not None
        model = exported.model_proto
        _name_axes(model)
        onnx.helper.set_model_props(model, metadata)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, part)
        session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])

        def answer(images: Tensor) -> Tensor:
            outputs: np.ndarray = session.run(["probabilities"], {"images": images.numpy()})[0]
            return torch.from_numpy(outputs)

        return largest_difference(classifier, answer, path.name)


def largest_difference(classifier: ExportedClassifier, answer: Callable[[Tensor], Tensor], name: str) -> float:
    """Compares a file's answers for random images with PyTorch's.

    Raises:
        RuntimeError: If the largest difference exceeds `TOLERANCE`.
    """
    generator, largest = torch.Generator().manual_seed(0), 0.0
    for batch, height, width in CHECKED_SIZES:
        images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)
        with torch.no_grad(), exact_products():
            difference = float((answer(images) - classifier(images)).abs().max())
        if not difference <= TOLERANCE:  # also where it is not a number
            raise RuntimeError(
                f"{name} answers otherwise than PyTorch: for {batch} images of {height}x{width} a probability differs "
                f"by {difference:.2g}, more than {TOLERANCE:g}; it is not written."
            )
        largest = max(largest, difference)
    return largest


def _name_axes(model: "onnx.ModelProto") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Gives the axes of any size the names that they have here."""
    traced = [dimension.dim_param for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    names = {traced[axis]: name for axis, name in AXES.items()}
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in names:
                dimension.dim_param = names[dimension.dim_param]


@contextmanager
def _checked_file(path: Path) -> Iterator[str]:
    """A file in a folder beside it, which takes its place if all goes well, and goes otherwise."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unchecked-") as folder:
        part = os.path.join(folder, path.name)  # the name itself, which is a part of a .pt2's contents
        yield part
        os.replace(part, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters say on every run, of their own workings."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
