"""Every file in deploy/ is what its format's published schema says, without a field that the schema does not know."""

import copy
import json
import re
import shutil
import subprocess
from typing import Any

import compose_spec
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob  # type: ignore[import-untyped]

from tests.deploy.manifests import FILES, KUBERNETES, OVERLAYS, ROOT, compose, objects, of_kind

KUBERNETES_VERSIONS = ("1.31", "1.37")  # the oldest with a stable podFailurePolicy, and the newest with a schema here
CORE = [item for item in objects() if "kubeflow" not in item["apiVersion"]]
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def check_trainjob(document: dict[str, Any]) -> None:
    """Kubeflow's models drop the fields that they do not know: what comes out must be what went in."""
    read = TrainerV1alpha1TrainJob.from_dict(copy.deepcopy(document))
    assert read is not None
    assert read.to_dict() == document


def check_compose(document: dict[str, Any]) -> None:
    """Raises ValueError for what is not in the Compose specification."""
    document = copy.deepcopy(document)
    for service in document["services"].values():  # the package knows on-failure, and not yet on-failure:5
        service["restart"] = re.sub(r"^on-failure:\d+$", "on-failure", service.get("restart", "no"))
    compose_spec.PyCompose.from_json(json.dumps(document)).validate()


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("document", CORE, ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_core_objects(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_every_kind_is_there():
    assert sorted(item["kind"] for item in CORE) == ["Job", "PersistentVolumeClaim", "PersistentVolumeClaim", "Service"]


def test_a_misspelt_core_field_is_found():
    document = copy.deepcopy(of_kind("Job"))
    container = document["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["readOnlyRootFileSystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="readOnlyRootFileSystem"):
        kubernetes_validate.validate(document, KUBERNETES_VERSIONS[-1], strict=True)


def test_trainjob():
    check_trainjob(of_kind("TrainJob"))


@pytest.mark.parametrize("field", ["podTemplateOverrides", "backoffLimit"])
def test_an_unknown_trainjob_field_is_found(field):
    document = copy.deepcopy(of_kind("TrainJob"))
    document["spec"][field] = []
    with pytest.raises(AssertionError):
        check_trainjob(document)


def test_compose():
    check_compose(compose("compose.yaml"))
    check_compose(compose("compose.cpu.yaml"))


def test_an_unknown_compose_field_is_found():
    document = compose("compose.yaml")
    document["services"]["train"]["readonly"] = True
    with pytest.raises(ValueError, match="readonly"):
        check_compose(document)


def test_compose_files_as_compose_merges_them(tmp_path):
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("docker compose is not installed")
    files = ["-f", str(ROOT / "deploy/compose.yaml")]
    for more in ([], ["-f", str(ROOT / "deploy/compose.cpu.yaml")]):
        command = ["docker", "compose", *files, *more, "config"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        devices = yaml.safe_load(done.stdout)["services"]["train"].get("deploy")
        assert (devices is None) == bool(more)


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_builds_an_overlay(overlay):
    command = ["kubectl", "kustomize", str(KUBERNETES / overlay)]
    built = list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    job = next(item for item in built if item["kind"].lower() == overlay)
    assert {item["metadata"]["namespace"] for item in built} == {"quickstudy"}
    assert [item["metadata"]["name"] for item in built if item["kind"] == "PersistentVolumeClaim"] == [
        "quickstudy-data",
        "quickstudy-runs",
    ]
    assert job["metadata"]["labels"]["app.kubernetes.io/part-of"] == "quickstudy"
    image = job["spec"]["trainer"] if overlay == "trainjob" else job["spec"]["template"]["spec"]["containers"][0]
    assert image["image"] == "quickstudy:latest"  # the overlay's name and tag, which job.yaml lacks
    for item in built:
        if overlay == "trainjob" and item is job:
            check_trainjob(item)
        else:
            kubernetes_validate.validate(item, KUBERNETES_VERSIONS[-1], strict=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_opens_with_a_comment(path):
    assert path.read_text(encoding="utf-8").startswith("# ")
    if path.parent.name != "base":
        assert "kubectl" in path.read_text(encoding="utf-8").partition("apiVersion")[0]
