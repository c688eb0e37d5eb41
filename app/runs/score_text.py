"""A score as a reader wants it: a share in percent, an error as a number."""

from datamodules.objective import Objective

SMALL, LARGE = 1e-3, 1e6  # numbers beyond them would have no digits left, or too many


def score_text(value: float, objective: Objective, decimals: int = 2) -> str:
    """E.g. "93.12%" of an accuracy, "0.0123" or "3.21e-05" of an error.

    Args:
        value: The score.
        objective: What it is a score of.
        decimals: Of a percentage.
    """
    if objective.is_fraction:
        return f"{value:.{decimals}%}"
    return f"{value:.4f}" if value == 0 or SMALL <= abs(value) < LARGE or value != value else f"{value:.2e}"
