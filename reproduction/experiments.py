"""The experiments that are reproduced: what trains and tests them, and what their papers report."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["transductive", "inductive"]
SEEDS = (0, 1, 2)  # of 5-way 1-shot experiments; of the others the first


class Published(NamedTuple):
    """A figure of a paper.

    Attributes:
        accuracy: In %.
        ci95: Half-width of its 95% interval, in %; None where the paper gives none.
        kind: How the paper evaluates.
    """

    accuracy: float
    ci95: float | None
    kind: Kind


@dataclass(frozen=True)
class Experiment:
    """One experiment of a table: a training, and the test that gives its figure.

    Args:
        name: METHOD_DATASET_WAYSHOT.
        method: The learner's name, as a reader knows it.
        config: Stem of the file in configs/ that trains.
        published: The paper's figures; none for what no paper reports.
        options: Of the training, beside its configuration.
        test_options: Of a test of its own, of the weights that another experiment's training leaves; None: the test at
            the end of the training.
        remark: What the configuration's head does not say of it.
    """

    name: str
    method: str
    config: str
    published: tuple[Published, ...] = ()
    options: tuple[str, ...] = ()
    test_options: tuple[str, ...] | None = None
    remark: str = ""

    @property
    def task(self) -> str:
        """For example "5w1s"."""
        return self.name.rpartition("_")[2]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that it is reproduced with."""
        return SEEDS if self.task == "5w1s" else SEEDS[:1]


TASKS = ("5w1s", "5w5s", "20w1s", "20w5s")


def _figures(kind: Kind, *of_tasks: tuple[float, float | None] | None) -> dict[str, tuple[Published, ...]]:
    """Accuracy and half-width for each of TASKS, in their order; None where the paper has none."""
    return {task: (Published(*of, kind),) for task, of in zip(TASKS, of_tasks, strict=True) if of is not None}


# Finn et al. 2017, Nichol et al. 2018, Snell et al. 2017, Li et al. 2017, Antoniou et al. 2019, Raghu et al. 2020,
# Sung et al. 2018: the papers' tables of Omniglot.
_MAML = _figures("transductive", (98.7, 0.4), (99.9, 0.1), (95.8, 0.3), (98.9, 0.2))
_MAML_MLP = _figures("transductive", (89.7, 1.1), (97.5, 0.6), None, None)
_FOMAML = _figures("transductive", (98.3, 0.5), (99.2, 0.2), (89.4, 0.5), (97.9, 0.1))
_META_SGD = _figures("transductive", (99.53, 0.26), (99.93, 0.09), (95.93, 0.38), (98.97, 0.19))
_MAML_PLUS_PLUS = _figures("transductive", (99.47, None), (99.93, None), (97.65, 0.05), (99.33, 0.03))
_ANIL = _figures("transductive", None, None, (96.2, 0.5), (98.0, 0.3))
_RELATION = _figures("transductive", (99.6, 0.2), (99.8, 0.1), (97.6, 0.2), (99.1, 0.1))
_REPTILE = _figures("inductive", (95.39, 0.09), (98.90, 0.10), (88.14, 0.15), (96.65, 0.33))
_REPTILE_TRANSDUCTIVE = _figures("transductive", (97.68, 0.04), (99.48, 0.06), (89.43, 0.14), (97.12, 0.32))
_PROTONET = _figures("inductive", (98.8, None), (99.7, None), (96.0, None), (98.9, None))

ONE_TRAINING = "5-way and 20-way are tests of one training, whose checkpoint is chosen on 5-way validation tasks."
ONE_META_TRAINING = "1-shot and 5-shot are tests of one training: the paper has the same settings for both."
OTHER_CHARACTERS = {
    "lake": ("--data.split", "lake"),
    "within_alphabet": ("--data.split", "within_alphabet"),
}


def _trained_alone(method: str, name: str, figures: dict[str, tuple[Published, ...]]) -> list[Experiment]:
    return [
        Experiment(f"{name}_omniglot_{task}", method, f"{name}_omniglot_{task}", of) for task, of in figures.items()
    ]


def _reptile() -> list[Experiment]:
    experiments = []
    for task, figures in _REPTILE.items():
        config = f"reptile_omniglot_{task.replace('5s', '1s')}"
        own_test = None if task.endswith("1s") else ("--data.evaluation.k_shot", "5")
        published = figures + _REPTILE_TRANSDUCTIVE[task]
        experiments.append(
            Experiment(f"reptile_omniglot_{task}", "Reptile", config, published, (), own_test, ONE_META_TRAINING)
        )
    return experiments


def _protonet() -> list[Experiment]:
    """The paper's split, and Lake's with its harder tasks within an alphabet, which share a training."""
    experiments = []
    for task, figures in _PROTONET.items():
        way, shot = task.split("w")
        config, ways = f"protonet_omniglot_5w{shot}", ("--data.evaluation.n_way", way)
        own_test = None if way == "5" else ways
        experiments.append(
            Experiment(f"protonet_omniglot_{task}", "ProtoNet", config, figures, (), own_test, ONE_TRAINING)
        )
        for name, split in OTHER_CHARACTERS.items():
            test = None if (way, name) == ("5", "lake") else (*split, *ways)
            experiments.append(
                Experiment(f"protonet_omniglot_{name}_{task}", "ProtoNet", config, (), OTHER_CHARACTERS["lake"], test)
            )
    return experiments


EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in [
        *_trained_alone("MAML", "maml", _MAML),
        *_trained_alone("FOMAML", "fomaml", _FOMAML),
        *_reptile(),
        *_protonet(),
        *_trained_alone("Meta-SGD", "meta_sgd", _META_SGD),
        *_trained_alone("MAML++", "maml_plus_plus", _MAML_PLUS_PLUS),
        *_trained_alone("ANIL", "anil", _ANIL),
        *_trained_alone("Relation network", "relation_network", _RELATION),
        *_trained_alone("MAML, no convolutions", "maml_mlp", _MAML_MLP),
    ]
}
