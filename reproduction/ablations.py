"""Variants of experiments with one setting changed, or those that belong together, to find out what it is worth.

Each is set beside EXPERIMENT-as_it_is, which is trained as long and tested on as many tasks.
"""

from typing import NamedTuple

from reproduction.experiments import EXPERIMENTS, Experiment


class Variant(NamedTuple):
    """What is changed.

    Attributes:
        options: Of the training.
        test_options: Of a test of its own, where the training's would be of other tasks than the experiment's.
    """

    options: tuple[str, ...]
    test_options: tuple[str, ...] | None = None


NEAREST = Variant(("--data.resize", "nearest"))
# The validation characters are trained on too, so they can neither choose a checkpoint nor end the training.
LAST = ("--checkpoint.tested", "last", "--early_stopping.patience", "null")
TRAINVAL = ("--data.split", "vinyals_trainval", "--data.evaluation.leaks", "warn", *LAST)
SUMMED_LOSS = Variant(("--model.inner_lr", "2.0"))
NORM_STAYS = Variant(("--model.adapt_norm", "false"))
NO_ROTATIONS = Variant(("--data.rotations", "none"), ("--data.rotations", "all"))
FIVE_STEPS = ("--model.inner_lr", "0.1", "--model.inner_steps", "5", "--model.eval_inner_steps", "5")

AS_IT_IS = "as_it_is"

# experiment -> options of all its variants: enough tasks to see a small difference, or few where a test takes long
COMMON: dict[str, tuple[str, ...]] = {
    "maml_omniglot_5w1s": ("--data.evaluation.n_test_tasks", "3000"),
    "maml_mlp_omniglot_5w1s": ("--data.evaluation.n_test_tasks", "3000"),
    "reptile_omniglot_5w1s": ("--data.evaluation.n_test_tasks", "1000"),
    "protonet_omniglot_5w1s": ("--data.evaluation.n_test_tasks", "2000"),
}

# experiment -> name of the variant -> what it changes
VARIANTS: dict[str, dict[str, Variant]] = {
    "maml_omniglot_5w1s": {
        "nearest": NEAREST,
        "summed_loss": SUMMED_LOSS,
        "norm_stays": NORM_STAYS,
        "normal_head": Variant(("--model", "reproduction.other_ways.NormalHead")),
        "cosine": Variant(("--model.outer.schedule", "cosine")),
        "five_queries": Variant(("--data.n_query", "5"), ("--data.n_query", "1")),
        "five_steps": Variant(FIVE_STEPS),
        "first_order": Variant(("--model.first_order", "true")),
        "no_rotations": NO_ROTATIONS,
        "flatten": Variant(("--model.backbone.reduce", "flatten")),
        "pool": Variant(("--model.backbone.downsample", "pool")),
    },
    "maml_mlp_omniglot_5w1s": {
        "nearest": NEAREST,
        "summed_loss": SUMMED_LOSS,
        "norm_stays": NORM_STAYS,
        "small_weights": Variant(("--model", "reproduction.other_ways.SmallWeights")),
    },
    "reptile_omniglot_5w1s": {
        "nearest": NEAREST,
        "fresh_moments": Variant(("--model.carry_moments", "false")),
        "ink_is_0": Variant(("--data", "reproduction.other_ways.InkIs0")),
    },
    "protonet_omniglot_5w1s": {
        "nearest": NEAREST,
        "trainval": Variant(TRAINVAL),
        "initialisation": Variant(("--model.backbone", "reproduction.other_ways.Conv4ByTorch")),
        "twenty_way": Variant(("--data.n_way", "20", "--data.meta_batch_size", "3")),
        "constant": Variant(("--model.outer.schedule", "constant")),
        "batch_statistics": Variant(("--model.backbone.running_stats", "false")),
        "no_rotations": NO_ROTATIONS,
        "stride": Variant(("--model.backbone.downsample", "stride")),
    },
}


def variants_of(experiment: Experiment) -> dict[str, Experiment]:
    """The experiment as it is and its variants, by their names, EXPERIMENT-VARIANT; none where it has none."""
    found = {}
    variants = VARIANTS.get(experiment.name, {})
    for name, variant in ({AS_IT_IS: Variant(())} | variants if variants else {}).items():
        full = f"{experiment.name}-{name}"
        options = (*experiment.options, *COMMON[experiment.name], *variant.options)
        found[full] = Experiment(
            full,
            experiment.method,
            experiment.config,
            experiment.published,
            options,
            variant.test_options,
            base=experiment.name,
        )
    return found


ABLATIONS = {name: variant for experiment in EXPERIMENTS.values() for name, variant in variants_of(experiment).items()}
