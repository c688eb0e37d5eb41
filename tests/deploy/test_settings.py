"""What every container of deploy/ keeps to: no root, no writing, no secret in a file, and names that fit together."""

import re

import pytest
from torch.distributed import run as torchrun

from tests.deploy.manifests import DEPLOY, ROOT, TrainingPod, compose, of_kind, training_pods

GRACE = 30  # seconds: the state is saved within 10
PODS = training_pods()
each_pod = pytest.mark.parametrize("pod", PODS, ids=[pod.name for pod in PODS])
SERVICES = compose("compose.yaml")["services"]
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(DEPLOY.rglob("*.yaml"))}
SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
# What keys look like: 32 or more hexadecimal digits, or letters of both cases with digits among them.
RANDOM = re.compile(r"\b(?:[0-9a-f]{32,}|(?=\w*\d)(?=\w*[A-Z])(?=\w*[a-z])\w{32,})\b")


def option(pod: TrainingPod, name: str) -> str:
    """The value of one of the training's options."""
    (value,) = [argument.partition("=")[2] for argument in pod.container["args"] if argument.startswith(f"--{name}=")]
    return value


@each_pod
def test_a_pod_is_not_root(pod):
    context = pod.spec["securityContext"]
    assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, 1000, 1000)
    assert context["fsGroup"] == 1000  # else a new volume belongs to root
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


@each_pod
def test_a_container_can_do_little(pod):
    context = pod.container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {"drop": ["ALL"]}


@each_pod
def test_a_container_can_write_where_the_program_writes(pod):
    mounts = {mount["mountPath"]: mount["name"] for mount in pod.container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    assert set(mounts) == {"/app/runs", "/data", "/dev/shm", "/tmp", "/home/quickstudy"}
    assert set(mounts.values()) == set(volumes)
    assert volumes[mounts["/app/runs"]]["persistentVolumeClaim"]["claimName"] == "quickstudy-runs"
    assert volumes[mounts["/data"]]["persistentVolumeClaim"]["claimName"] == "quickstudy-data"
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    for folder in ("/dev/shm", "/tmp", "/home/quickstudy"):
        assert "sizeLimit" in volumes[mounts[folder]]["emptyDir"]


@each_pod
def test_resources_are_asked_for_and_limited(pod):
    requests, limits = pod.container["resources"]["requests"], pod.container["resources"]["limits"]
    assert requests["nvidia.com/gpu"] == limits["nvidia.com/gpu"] == pod.processes
    assert requests["memory"] == limits["memory"]
    assert {"cpu", "ephemeral-storage"} <= set(requests)


@each_pod
def test_the_machines_are_as_many_as_the_training_expects(pod):
    assert int(option(pod, "trainer.num_nodes")) == pod.nodes > 1
    assert int(option(pod, "trainer.devices")) == pod.processes
    assert "--config=configs/multi_node.yaml" in pod.container["args"]


@each_pod
def test_torchrun_takes_its_options_from_the_environment(pod, monkeypatch):
    for name, value in pod.env.items():
        monkeypatch.setenv(name, value)
    if pod.name == "TrainJob":  # what the runtime adds
        monkeypatch.setenv("PET_NNODES", str(pod.nodes))
        monkeypatch.setenv("PET_NPROC_PER_NODE", str(pod.processes))
    assert pod.container["command"][:2] == ["python", "deploy/torchrun.py"]
    config, _, command = torchrun.config_from_args(
        torchrun.parse_args([*pod.container["command"][2:], *pod.container["args"]])
    )
    assert command[-len(pod.container["args"]) :] == pod.container["args"]
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node) == (pod.nodes, pod.nodes, pod.processes)
    assert (config.rdzv_backend, config.rdzv_endpoint) == ("c10d", pod.env["PET_RDZV_ENDPOINT"])
    assert config.max_restarts > 0
    assert set(config.rdzv_configs) >= {"join_timeout", "read_timeout"}


def test_the_job_meets_at_a_name_that_its_service_gives():
    job, service = of_kind("Job"), of_kind("Service")
    template = job["spec"]["template"]
    (port,) = service["spec"]["ports"]
    host = f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert PODS[0].env["PET_RDZV_ENDPOINT"] == f"{host}:{port['port']}"
    assert template["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert PODS[0].container["ports"][0]["containerPort"] == port["port"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["completions"] == job["spec"]["parallelism"]


def test_the_trainjob_meets_at_the_name_that_its_jobset_gives():
    name = of_kind("TrainJob")["metadata"]["name"]
    assert PODS[1].env["PET_RDZV_ENDPOINT"] == f"{name}-node-0-0.{name}:29500"
    reserved = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
    assert not reserved & set(PODS[1].env)  # Kubeflow refuses them


def test_the_job_restarts_what_is_worth_it():
    spec = of_kind("Job")["spec"]
    actions: dict[int | str, str] = {}
    for rule in spec["podFailurePolicy"]["rules"]:
        for code in rule.get("onExitCodes", {}).get("values", []):
            actions.setdefault(code, rule["action"])
        for condition in rule.get("onPodConditions", []):
            actions.setdefault(condition["type"], rule["action"])
    assert actions == {2: "FailJob", 75: "Ignore", 138: "Ignore", 143: "Ignore", "DisruptionTarget": "Ignore"}
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["backoffLimit"] > 0
    assert spec["podReplacementPolicy"] == "Failed"


@each_pod
def test_a_pod_has_time_to_save(pod):
    assert pod.spec["terminationGracePeriodSeconds"] >= GRACE


@each_pod
def test_a_pod_reads_its_secret_from_the_cluster(pod):
    by_name = {item["name"]: item for item in pod.container["env"]}
    assert by_name["WANDB_API_KEY"] == {
        "name": "WANDB_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "api-key", "optional": True}},
    }
    assert [name for name, item in by_name.items() if SECRET.search(name) and "value" in item] == []


@pytest.mark.parametrize("name", TEXTS)
def test_no_file_holds_a_secret(name):
    assert "kind: Secret" not in TEXTS[name]
    assert RANDOM.findall(TEXTS[name]) == []


def test_a_key_is_told_from_words():
    hexadecimal, mixed = "3f9c2a7be1d04c58" * 2, "8f2Kq0ZxV7bLmT1dRw9sYc4GhJ6nPeA3uB"
    assert RANDOM.findall(f"key: {hexadecimal}\n{mixed} persistentVolumeClaimOfSomeVeryLongName") == [
        hexadecimal,
        mixed,
    ]


@each_service
def test_a_service_can_do_little(service):
    assert (service["user"], service["read_only"], service["cap_drop"]) == ("1000:1000", True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert [folder.partition(":")[0] for folder in service["tmpfs"]] == ["/tmp", "/home/quickstudy"]
    assert service["volumes"] == ["runs:/app/runs", "data:/data"]
    assert all("=" not in variable for variable in service["environment"])  # names alone


def test_the_training_service_has_a_gpu_and_time_to_save():
    train = SERVICES["train"]
    (device,) = train["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert train["stop_grace_period"] == "1m"
    assert re.fullmatch(r"on-failure:\d+", train["restart"])
