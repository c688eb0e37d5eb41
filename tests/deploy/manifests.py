"""What the files in deploy/ hold, in the form that the tests look at."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = ("job", "trainjob")
FILES = sorted(path for path in KUBERNETES.rglob("*.yaml") if "apiVersion:" in path.read_text(encoding="utf-8"))


class ComposeLoader(yaml.SafeLoader):
    """Reads Compose's own tag for "take this away again"."""


ComposeLoader.add_constructor("!reset", lambda loader, node: None)


class TrainingPod(NamedTuple):
    """A Job's or TrainJob's pod and its one container, wherever the kind keeps the parts.

    Attributes:
        name: The object's kind.
        spec: The pod: securityContext, volumes.
        container: The container: image, command, args, env, resources, securityContext, volumeMounts.
        nodes: The number of pods.
        processes: The number of processes in each.
    """

    name: str
    spec: dict[str, Any]
    container: dict[str, Any]
    nodes: int
    processes: int

    @property
    def env(self) -> dict[str, str]:
        """The variables whose values stand in the file."""
        return {item["name"]: item["value"] for item in self.container["env"] if "value" in item}


def documents(path: Path) -> list[dict[str, Any]]:
    """A file's objects."""
    return [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]


def objects() -> Iterator[dict[str, Any]]:
    """Every object of every Kubernetes file, Kustomize's own left out."""
    for path in FILES:
        yield from (item for item in documents(path) if item["kind"] != "Kustomization")


def of_kind(kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = [item for item in objects() if item["kind"] == kind]
    return found


def job_pod() -> TrainingPod:
    """The plain Job's pod."""
    spec = of_kind("Job")["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    processes = next(int(item["value"]) for item in container["env"] if item["name"] == "PET_NPROC_PER_NODE")
    return TrainingPod("Job", pod, container, spec["completions"], processes)


def trainjob_pod() -> TrainingPod:
    """The TrainJob's pod: the trainer's fields with the patch of its container."""
    spec = of_kind("TrainJob")["spec"]
    trainer = spec["trainer"]
    (patch,) = spec["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]["spec"]
    (patched,) = pod["containers"]
    container = {**patched, **trainer, "resources": trainer["resourcesPerNode"]}
    return TrainingPod("TrainJob", pod, container, trainer["numNodes"], trainer["numProcPerNode"])


def training_pods() -> list[TrainingPod]:
    """Every pod that trains."""
    return [job_pod(), trainjob_pod()]


def interpolated(text: str, variables: dict[str, str] | None = None) -> str:
    """Compose's ${NAME:-default} and $$ replaced."""
    given = variables or {}
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda match: given.get(match[1], match[2]), text)
    return text.replace("$$", "$")


def compose(name: str, variables: dict[str, str] | None = None) -> dict[str, Any]:
    """A Compose file as Compose sees it."""
    text = (DEPLOY / name).read_text(encoding="utf-8")
    return yaml.load(interpolated(text, variables), ComposeLoader)


def kustomization(overlay: str) -> Path:
    """An overlay's folder."""
    return Path(os.path.relpath(KUBERNETES / overlay, ROOT))
