"""Temperature and threshold against searches that try everything."""

import pytest
import torch
from torch.nn import functional

from modules.functional.calibration import fit_temperature, sure_above


@pytest.mark.parametrize("scale", [0.05, 1.0, 40.0])
def test_the_temperature_has_the_smallest_cross_entropy(scale: float):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(500, 5, generator=generator, dtype=torch.float64)
    labels = torch.where(torch.rand(500, generator=generator) < 0.6, logits.argmax(-1), torch.arange(500) % 5)
    found = fit_temperature(logits, labels)
    tried = torch.logspace(-3, 3, 20001, dtype=torch.float64)
    losses = torch.stack([functional.cross_entropy(logits / t, labels) for t in tried])
    assert found == pytest.approx(float(tried[losses.argmin()]), rel=1e-3)
    assert float(functional.cross_entropy(logits / found, labels)) <= float(losses.min()) + 1e-12


def test_answers_drawn_from_the_softmax_need_no_temperature():
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(200_000, 4, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator).squeeze(1)
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.02)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, abs=0.06)


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("decimals", [1, 6])  # with few decimals many answers are equally confident
def test_the_threshold_is_the_lowest_that_does(accuracy: float, decimals: int):
    generator = torch.Generator().manual_seed(2)
    confidence = torch.rand(400, generator=generator, dtype=torch.float64).round(decimals=decimals)
    correct = torch.rand(400, generator=generator) < confidence
    fitting = []
    for threshold in confidence.unique().tolist():
        chosen = confidence >= threshold
        if int(chosen.sum()) >= 30 and float(correct[chosen].double().mean()) >= accuracy:
            fitting.append(threshold)
    assert sure_above(confidence, correct, accuracy) == (min(fitting) if fitting else None)


def test_a_share_that_is_never_reached_gives_no_threshold():
    assert sure_above(torch.rand(100), torch.zeros(100, dtype=torch.bool), 0.5) is None


def test_few_answers_prove_nothing():
    confidence, correct = torch.linspace(0, 1, 60), torch.arange(60) >= 40
    assert sure_above(confidence, correct, 1.0, fewest=20) == pytest.approx(float(confidence[40]))
    assert sure_above(confidence, correct, 1.0, fewest=21) is None
