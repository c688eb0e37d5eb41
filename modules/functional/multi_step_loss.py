"""How much the query loss after each inner step counts."""


def step_weights(n_steps: int, progress: float, smallest: float = 0.03) -> list[float]:
    """The weights of the query losses after 1, ..., n_steps inner steps: all equal at first, then ever more the last's.

    Args:
        n_steps: K inner steps, 1 or more.
        progress: How far the annealing has come, 0 or more; from 1 on only the last step counts.
        smallest: Below this share of 1 / K no weight falls before that.

    Returns:
        K weights that sum to 1.

    Reference:
        Antoniou, Edwards and Storkey, "How to Train Your MAML", ICLR 2019, section 4, "Multi-Step Loss Optimization",
        and `get_per_step_loss_importance_vector` of the authors' code, where progress grows once an epoch.
    """
    if progress >= 1:
        return [0.0] * (n_steps - 1) + [1.0]
    other = max(1 - progress, smallest) / n_steps
    return [other] * (n_steps - 1) + [1 - (n_steps - 1) * other]
