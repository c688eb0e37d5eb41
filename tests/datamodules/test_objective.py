"""What the data asks of a model: losses, scores and answers of both objectives."""

import numpy as np
import pytest
import torch

from datamodules.objective import CLASSIFICATION, OBJECTIVES, REGRESSION


def test_squared_error_of_each_example() -> None:
    outputs, targets = torch.randn(2, 3, 4, 1), torch.randn(3, 4)
    expected = (outputs.numpy()[..., 0] - targets.numpy()) ** 2
    for error in (REGRESSION.loss, REGRESSION.score):
        assert np.allclose(error(outputs, targets).numpy(), expected)


def test_the_gradient_is_that_of_the_square() -> None:
    outputs, targets = torch.randn(5, 1, requires_grad=True), torch.randn(5)
    REGRESSION.loss(outputs, targets).sum().backward()
    assert outputs.grad is not None
    assert torch.allclose(outputs.grad, 2 * (outputs.detach() - targets.unsqueeze(1)))


@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16])
def test_a_low_precision_output_is_scored_in_float32(low: torch.dtype) -> None:
    outputs, targets = torch.tensor([[1.0]], dtype=low), torch.tensor([1.001])  # which low precision rounds away
    score = REGRESSION.score(outputs, targets)
    assert score.dtype == torch.float32
    assert float(score) == pytest.approx(1e-6, rel=1e-3)
    assert REGRESSION.answer(outputs).dtype == CLASSIFICATION.answer(outputs).dtype == torch.float32


def test_double_precision_stays() -> None:
    outputs, targets = torch.ones(3, 1, dtype=torch.float64), torch.zeros(3)
    assert REGRESSION.loss(outputs, targets).dtype == REGRESSION.answer(outputs).dtype == torch.float64


def test_answers_are_probabilities_or_the_value_itself() -> None:
    outputs = torch.randn(2, 3, 5)
    assert torch.allclose(CLASSIFICATION.answer(outputs), torch.softmax(outputs, -1))
    assert torch.equal(REGRESSION.answer(outputs[..., :1]), outputs[..., :1])


def test_objectives_say_how_they_are_scored() -> None:
    assert {name: (o.score_name, o.direction, o.is_fraction) for name, o in OBJECTIVES.items()} == {
        "classification": ("accuracy", "max", True),
        "regression": ("mse", "min", False),
    }
