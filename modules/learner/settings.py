"""What holds for settings of several classes."""


def check_positive(**settings: float | None) -> None:
    """Checks settings by their names; None stands for one that is not used.

    Raises:
        ValueError: If one is not above 0.
    """
    for name, value in settings.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}.")
