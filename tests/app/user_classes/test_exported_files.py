"""What is written for other programs answers like the learner, for every learner."""

import logging
from pathlib import Path

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch

from app.user_classes.exported_files import CHECKED_SIZES, largest_difference, trace, write_onnx, write_torch_export
from modules import MAML, Learner
from modules.functional.images.preprocessing import Preprocessing
from modules.learner.classifier import Classifier
from modules.learner.exported_classifier import ExportedClassifier
from tests.every_learner import LEARNERS, N_WAY, make_small, support_and_queries

# ONNX takes ten seconds for each: one learner in the quick tests, which trace all of them.
WRITTEN = [
    pytest.param(kind, running_stats, marks=[pytest.mark.slow] if kind is not MAML or running_stats else [])
    for kind in LEARNERS
    for running_stats in (False, True)
]
PREPROCESSING = Preprocessing((1, 8, 8), "lanczos", "crop", inverts_paper=True)


def exported(kind: type[Learner], running_stats: bool = False, temperature: float = 1.0) -> ExportedClassifier:
    learner = make_small(kind, running_stats).float()
    support, _ = support_and_queries()
    support = support._replace(x=support.x.float())
    return ExportedClassifier(Classifier(learner, support, temperature), PREPROCESSING)


def some_images(n: int, height: int = 20, width: int = 30) -> torch.Tensor:
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("running_stats", [False, True])
@pytest.mark.parametrize("kind", LEARNERS)
def test_the_module_answers_like_the_classifier(kind: type[Learner], running_stats: bool) -> None:
    module, images = exported(kind, running_stats, temperature=2.0), some_images(7)
    learner, (support, _) = make_small(kind, running_stats), support_and_queries()
    expected = Classifier(learner, support, 2.0)(PREPROCESSING(images).double().unsqueeze(0))[0]
    answers = module(images)
    assert answers.shape == (7, N_WAY)
    torch.testing.assert_close(answers, expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(module(images[2:3]), answers[2:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("running_stats", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", LEARNERS)
def test_its_trace_takes_any_number_of_images_of_any_size(kind: type[Learner], running_stats: bool) -> None:
    module = exported(kind, running_stats)
    program = trace(module)
    largest_difference(module, program.module(), "the trace")
    if kind is MAML and not running_stats:  # of the weights only the adapted ones are kept
        sizes = {name: value.numel() for name, value in program.state_dict.items()}
        assert all((size == 0) == name.startswith("params") for name, size in sizes.items())


@pytest.mark.parametrize(("kind", "running_stats"), WRITTEN)
def test_both_files_answer_like_the_module(
    kind: type[Learner], running_stats: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    module = exported(kind, running_stats)
    program, facts = trace(module), {"classes": '["a", "b", "c"]'}
    assert write_onnx(module, program, tmp_path / "classifier.onnx", facts) < 1e-5
    assert write_torch_export(module, program, tmp_path / "classifier.pt2", facts) < 1e-5
    assert capfd.readouterr() == ("", "")
    session = onnxruntime.InferenceSession(tmp_path / "classifier.onnx")
    (given,), (answered,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 3, "height", "width"])
    assert (answered.name, answered.type, answered.shape) == ("probabilities", "tensor(float)", ["batch", N_WAY])
    assert session.get_modelmeta().custom_metadata_map == facts
    model = onnx.load(tmp_path / "classifier.onnx")
    assert {entry.version for entry in model.opset_import if entry.domain == ""} == {18}
    assert logging.getLogger("torch.onnx").level != logging.ERROR
    images = some_images(4)
    (probabilities,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(probabilities, module(images).detach().numpy(), atol=1e-5)
    stored = dict.fromkeys(facts, "")
    loaded = torch.export.load(tmp_path / "classifier.pt2", extra_files=stored).module()
    torch.testing.assert_close(loaded(images), module(images), rtol=0, atol=1e-6)
    assert stored == facts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classifier.onnx", "classifier.pt2"]


def test_a_wrong_weight_is_found_and_nothing_written(tmp_path: Path) -> None:
    module, traced = exported(MAML), exported(MAML)
    with torch.no_grad():
        dict(traced.named_buffers())["state/7"][0, 0] += 0.05  # the bias of an output
    program = trace(traced)
    for write in (write_onnx, write_torch_export):
        with pytest.raises(RuntimeError, match=r"answers otherwise than PyTorch: .* by [\d.e-]+, more than 0.0001"):
            write(module, program, tmp_path / "classifier.file", {})
    assert list(tmp_path.iterdir()) == []


def test_one_pixel_and_one_image_are_among_the_checked_sizes() -> None:
    assert {batch for batch, _, _ in CHECKED_SIZES} >= {1, 2}
    assert (1, 1) in {(height, width) for _, height, width in CHECKED_SIZES}


def test_an_answer_that_is_not_a_number_is_found() -> None:
    module = exported(MAML)
    with pytest.raises(RuntimeError, match=r"the file answers otherwise than PyTorch: .* differs by nan"):
        largest_difference(module, lambda images: module(images) * torch.nan, "the file")
