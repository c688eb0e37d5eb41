"""Every file in configs/ says what it is and runs; new files are found by themselves."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from app.cli import main
from tests.datamodules.image_makers import save_classes
from tests.every_learner import LEARNERS
from tests.made_once import made_once

CONFIGS = Path(__file__).parents[1] / "configs"
CONTENT = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONFIGS.glob("*.yaml"))}
EXPERIMENTS = [name for name, content in CONTENT.items() if "model" in content]
OVERLAYS = [name for name in CONTENT if name not in EXPERIMENTS]
METHODS = {kind.__module__.rpartition(".")[2]: f"modules.{kind.__name__}" for kind in LEARNERS}
METHODS |= {"maml_mlp": "modules.MAML", "fomaml": "modules.MAML", "oracle": METHODS["joint_training"]}

SHORT_STEPS = re.compile("scratch|baseline")  # training takes no step, or an inner step does not pass the network

# What makes any experiment small, where its model has the argument.
SMALL = {"inner_steps": 2, "eval_inner_steps": 3, "inner_batch_size": 4, "eval_inner_batch_size": 4}
SMALL |= {"directions": 2, "inner_directions": 2, "latent_steps": 1, "finetuning_steps": 1}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr("sys.argv", ["train.py"])


@pytest.fixture
def as_it_was() -> Iterator[None]:
    """Takes back what a data parallel Trainer leaves in this process: a process group and its environment."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


def shows_photographs(name: str) -> bool:
    return any(data in name for data in ("mini_imagenet", "image_folder"))


def is_of_functions(name: str) -> bool:
    return "sinusoid" in name


@pytest.fixture
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images that tests only read; what is cached of them lies beside a user's other caches."""
    return made_once(tmp_path_factory, "photographs", write_photographs)


def write_photographs(root: Path) -> None:
    """Thirty classes for training and five for each of the others, with twenty small images of each.

    As mini-ImageNet has them, a folder of images and three lists; and as a user may, in folders of the splits.
    """
    for split, n in (("train", 30), ("val", 5), ("test", 5)):
        names = [f"{split}{c}" for c in range(n)]
        save_classes(root / split, dict.fromkeys(names, 20), ".jpg", first=len(list(root.rglob("*.jpg"))))
        rows = [f"../{split}/{name}/{i:03}.jpg,{name}\n" for name in names for i in range(20)]
        (root / f"{split}.csv").write_text("filename,label\n" + "".join(rows))
    (root / "images").mkdir()


def settings(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    content = CONTENT[name]
    evaluation = content["data"]["init_args"].get("evaluation", {})
    return content["model"]["init_args"], content["data"]["init_args"], evaluation


def evaluated(name: str, argument: str) -> int:
    """An argument of the evaluation's tasks, which is that of training where nothing else is said."""
    _, data, evaluation = settings(name)
    return evaluation.get(argument, 1 if argument == "n_way" and is_of_functions(name) else data[argument])


def small(name: str) -> list[str]:
    """Options that shrink an experiment and leave its structure."""
    model = settings(name)[0]
    shrunk = [f"--model.{argument}={value}" for argument, value in SMALL.items() if argument in model]
    if model.get("backbone", {}).get("class_path") == "modules.Timm":
        sizes = {"name": "test_vit", "pretrained": "false", "image_size": 32}
        shrunk += [f"--model.backbone.{argument}={value}" for argument, value in sizes.items()]
        shrunk += ["--data.image_size=32", "--trainer.precision=32"]
    elif model.get("backbone", {}).get("class_path") == "modules.MLP":
        shrunk.append("--model.backbone.widths=[4,4]")
    elif "backbone" in model:
        deep = model["backbone"]["class_path"] == "modules.ResNet12"
        shrunk += ["--model.backbone.widths=[2,3,4,5]" if deep else "--model.backbone.filters=4"]
        shrunk += ["--data.image_size=32", "--model.backbone.image_size=32"] if shows_photographs(name) else []
    counts = {"meta_batch_size": 2, "evaluation.n_val_tasks": 2, "evaluation.n_test_tasks": 3}
    shrunk += [f"--data.{argument}={value}" for argument, value in counts.items()]
    return [*shrunk, "--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.val_check_interval=1"]


def trained_quickly(names: list[str]) -> list[Any]:
    """One experiment for each method, backbone and data set; those of other ways and shots are slow tests."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name.rpartition("_")[0], name)
    return [name if name in first.values() else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", trained_quickly(EXPERIMENTS))
def test_experiment_trains_and_tests(name, capfd, photographs):
    # On Glyphs, which is always there, a tiny mini-ImageNet or functions, with the tasks of the experiment.
    _, data, evaluation = settings(name)
    source = f"--data.root={photographs}" if shows_photographs(name) else "--data=Glyphs"
    source = "--data=Sinusoid" if is_of_functions(name) else source
    tasks = [f"--data.{argument}={data[argument]}" for argument in ("n_way", "k_shot", "n_query") if argument in data]
    tasks += [f"--data.evaluation.{argument}={evaluation[argument]}" for argument in evaluation if argument[:2] != "n_"]
    tasks += [f"--data.evaluation.{argument}={evaluated(name, argument)}" for argument in ("n_way", "n_query")]
    if source == "--data=Glyphs":  # whose classes have ten images for queries
        tasks = [re.sub(r"n_query=1\d$", "n_query=10", task) for task in tasks]
    main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), source, *tasks, *small(name)])
    way, shot = evaluated(name, "n_way"), evaluated(name, "k_shot")
    size = f"{shot}-shot regression)" if is_of_functions(name) else f"{way}-way {shot}-shot, "
    assert f"(3 tasks, {size}" in capfd.readouterr().out
    assert (Path("runs") / name / "0" / "results.json").is_file()


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if "omniglot" in name])
def test_experiment_is_accepted_up_to_its_missing_data(name, capfd):
    options = ["--data.root=nowhere", "--data.download=false", "--trainer.accelerator=cpu"]
    with pytest.raises(SystemExit):
        main(["fit", "--config", str(CONFIGS / f"{name}.yaml"), *options])
    assert capfd.readouterr().err.startswith("error: Omniglot is not in ")


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_goes_behind_an_experiment(name, capfd, as_it_was):
    configs = ["--config", str(CONFIGS / "maml_glyphs_5w1s.yaml"), "--config", str(CONFIGS / f"{name}.yaml")]
    main(["fit", *configs, *small("maml_glyphs_5w1s")])
    assert Path("runs/maml_glyphs_5w1s/0/results.json").is_file()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_name_says_what_it_is(name):
    what, _, protocol = name.rpartition("_")
    named = [method for method in METHODS if what.startswith(f"{method}_")]
    method = max(named, key=len, default=what.partition("_")[0])
    data = what.removeprefix(f"{method}_").removesuffix("_resnet12").removesuffix("_vit").replace("_", "")
    sizes = re.fullmatch(r"(\d+)s" if is_of_functions(name) else r"(\d+)w(\d+)s", protocol)
    assert sizes, "a configuration is named METHOD_DATASET_WAYwSHOTs, of functions METHOD_DATASET_SHOTs"
    arguments = ("k_shot",) if is_of_functions(name) else ("n_way", "k_shot")
    assert [evaluated(name, argument) for argument in arguments] == [int(size) for size in sizes.groups()]
    assert CONTENT[name]["model"]["class_path"] == METHODS.get(method, CONTENT[name]["model"]["class_path"])
    assert CONTENT[name]["data"]["class_path"].lower() == f"datamodules.{data}"


@pytest.mark.parametrize("name", CONTENT)
def test_opens_with_its_command(name):
    text = (CONFIGS / f"{name}.yaml").read_text()
    comment = text[: text.index("\n", text.rindex("\n#") + 1)] if "\n#" in text else ""
    assert text.startswith("#")
    assert "python train.py fit" in comment
    if name in EXPERIMENTS and name != "maml_glyphs_5w1s":
        assert f"configs/{name}.yaml" in comment
        for word in ("Paper:", "Protocol:", "Deviations:"):
            assert word in comment, word


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if "omniglot" in name and not SHORT_STEPS.search(name)])
def test_validation_takes_little_of_the_time(name):
    _, data, evaluation = settings(name)
    trained = CONTENT[name]["trainer"]["val_check_interval"] * data["meta_batch_size"]
    images = data["n_way"] * (data["k_shot"] + data["n_query"])
    validated = (
        evaluation["n_val_tasks"] * evaluated(name, "n_way") * (evaluated(name, "k_shot") + evaluated(name, "n_query"))
    )
    steps = settings(name)[0].get("inner_steps", 1)
    eval_steps = settings(name)[0].get("eval_inner_steps", steps)
    # A training step goes forward and back, a validation step of ProtoNet only forward: this bound is a coarse one.
    assert validated * eval_steps < 0.12 * trained * images * steps
