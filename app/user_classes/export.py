"""Writes a learner, adapted to a support set, as files for programs without this one."""

import json
from pathlib import Path
from typing import Any

from app.files.atomic_file import write_atomically
from app.user_classes.exported_files import trace, write_onnx, write_torch_export
from app.user_classes.model_card import CardFacts, model_card
from datamodules.episode import Task
from datamodules.images.input_spec import InputSpec
from modules import Learner
from modules.functional.images.preprocessing import Preprocessing
from modules.learner.classifier import Classifier
from modules.learner.exported_classifier import ExportedClassifier

ONNX, TORCH_EXPORT, CLASSES, CARD = "classifier.onnx", "classifier.pt2", "classes.json", "model_card.md"


def export_classifier(learner: Learner, task: Task, facts: CardFacts, folder: Path) -> list[Path]:
    """Adapts the learner and writes the classifier, its classes and its card, each file checked.

    Args:
        learner: With its trained weights, on the CPU.
        task: One task: images (1, S, C, H, W) in [0, 1] and labels (1, S).
        facts: What the card states; the classifier takes its classes, temperature and input specification from it.
        folder: Where to; must exist.

    Returns:
        The files.

    Raises:
        ValueError: If the learner has too few outputs, or its network cannot be exported.
        RuntimeError: If a file answers otherwise than PyTorch.
    """
    classifier = Classifier(learner, task, facts.temperature)
    module = ExportedClassifier(classifier, preprocessing_of(facts.input_spec))
    program, labels = trace(module), _labels(facts)
    metadata = {name: json.dumps(value) for name, value in labels.items()}
    differences = {
        ONNX: write_onnx(module, program, folder / ONNX, metadata),
        TORCH_EXPORT: write_torch_export(module, program, folder / TORCH_EXPORT, metadata),
    }
    write_atomically(folder / CLASSES, json.dumps(labels, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / CARD, model_card(facts, differences))
    return [folder / name for name in (ONNX, TORCH_EXPORT, CLASSES, CARD)]


def preprocessing_of(input_spec: dict[str, Any]) -> Preprocessing:
    """The steps that an input specification stands for."""
    spec = InputSpec.from_dict(input_spec)
    return Preprocessing(spec.image_shape, spec.filter, spec.fit, inverts_paper=spec.ink is not None)


def _labels(facts: CardFacts) -> dict[str, Any]:
    """Returns what a program that calls the classifier needs to know."""
    return {
        "classes": list(facts.class_names),
        "support_images": list(facts.class_sizes),
        "unsure_below": facts.unsure_below,
        "preprocessing": facts.input_spec,
        "checkpoint": facts.checkpoint,
    }
