"""Nothing that was trained on is scored: by contents, whatever the folders are called and however they are split."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.datamodules.image_makers import save_classes

QUICK = (
    "--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.val_check_interval=1", "--trainer.logger=false",
    "--data=ImageFolder", "--data.image_size=12", "--data.n_way=2", "--data.n_query=2", "--data.meta_batch_size=1",
    "--data.evaluation.n_val_tasks=2", "--data.evaluation.n_test_tasks=3",
)  # fmt: skip
MODEL = (
    "--model=ProtoNet", "--model.backbone=Conv4", "--model.backbone.filters=4", "--model.backbone.in_channels=3",
    "--model.backbone.image_size=12", "--model.backbone.running_stats=true",
)  # fmt: skip
SEEN = "that the checkpoint or its backbone was trained on"
RUNS = Path("runs")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_classes(tmp_path / "images", {f"class{c:02}": 5 for c in range(12)})


def fit(run, images: Path, name: str, *options: str):
    folder = f"--trainer.default_root_dir=runs/{name}"
    return run("fit", *QUICK, *MODEL, f"--data.root={images}", f"--data.cache={images.parent}", folder, *options)


def checkpoint_of(name: str) -> Path:
    (found,) = (RUNS / name).rglob("last.ckpt")
    return found


def trained(name: str) -> torch.Tensor:
    found: torch.Tensor = torch.load(checkpoint_of(name), weights_only=True)["trained_images"]
    return found


def one_line(text: str) -> str:
    (line,) = [line for line in text.splitlines() if line.startswith("error")]
    return line


def test_a_checkpoint_carries_eight_bytes_of_each_image_it_was_trained_on(run, images: Path):
    assert fit(run, images, "a").code == 0
    found = trained("a")
    assert found.dtype == torch.int64
    assert len(found) == 8 * 5  # of 12 classes two are for validation and two for test
    assert torch.equal(found, found.unique())


def test_a_test_where_folders_were_renamed_since_is_refused(run, images: Path):
    """The split by fraction goes by the names: other classes are tested on."""
    assert fit(run, images, "a").code == 0
    for folder in sorted(images.iterdir()):
        folder.rename(images / f"renamed-{folder.name}")
    asked = ("test", "--ckpt_path", str(checkpoint_of("a")), f"--data.root={images}")
    ended = run(*asked)
    assert ended.code == 1
    assert f"test holds 10 images {SEEN}: 5 of 'renamed-class" in one_line(ended.err)
    insisted = run(*asked, "--data.evaluation.leaks=warn")
    assert insisted.code == 0, insisted.err
    assert insisted.err.count(f"warning: test holds 10 images {SEEN}") == 1
    last = next(line for line in insisted.out.splitlines() if line.startswith("test accuracy"))
    assert f"; but test holds 10 images {SEEN}: 5 of 'renamed-class" in last
    (results,) = [path for path in RUNS.rglob("results.json") if "test" in path.parent.name]
    assert f"test holds 10 images {SEEN}" in json.loads(results.read_text())["protocol"]["leaks"]


def test_a_backbone_of_another_split_is_not_scored_on_what_it_was_trained_on(run, images: Path):
    assert fit(run, images, "a").code == 0
    weights = f"--model.backbone.weights={checkpoint_of('a')}"
    refused = fit(run, images, "b", "--data.split_seed=1", weights)
    assert refused.code == 1
    assert SEEN in one_line(refused.err)
    assert not list((RUNS / "b").rglob("*.ckpt"))
    same = fit(run, images, "same", weights)
    assert same.code == 0, same.err
    assert torch.equal(trained("same"), trained("a"))

    insisted = fit(run, images, "b", "--data.split_seed=1", weights, "--data.evaluation.leaks=warn")
    assert insisted.code == 0, insisted.err
    (results,) = (RUNS / "b").rglob("results.json")
    assert SEEN in json.loads(results.read_text())["protocol"]["leaks"]
    assert set(trained("b").tolist()) > set(trained("a").tolist())

    # What the second one was trained on and the first was not reaches a third.
    third = fit(run, images, "c", f"--model.backbone.weights={checkpoint_of('b')}")
    assert third.code == 1
    assert SEEN in one_line(third.err)


def test_a_resumed_run_keeps_its_images_and_asks_nothing(run, images: Path):
    assert fit(run, images, "a").code == 0
    before = trained("a")
    resumed = fit(run, images, "a", "--trainer.max_steps=3", f"--ckpt_path={checkpoint_of('a')}")
    assert resumed.code == 0, resumed.err
    assert SEEN not in resumed.err
    assert torch.equal(trained("a"), before)


def test_a_prediction_for_classes_that_were_trained_on_says_so(run, images: Path, tmp_path: Path):
    assert fit(run, images, "a").code == 0
    names = torch.load(checkpoint_of("a"), weights_only=True)["trained_classes"]
    for name in names[:2]:
        for place, number in (("support", 0), ("query", 1)):
            target = tmp_path / place / f"my-{name}" / "photo.png"
            target.parent.mkdir(parents=True)
            shutil.copy(images / name / f"00{number}.png", target)
    asked = (f"--data.support={tmp_path}/support", f"--data.query={tmp_path}/query")
    ended = run("predict", "--ckpt_path", str(checkpoint_of("a")), "--data=SupportQuery", *asked)
    assert ended.code == 0, ended.err
    warning = (
        "warning: the checkpoint or its backbone was trained on 2 of the 2 support images and 2 of the 2 query images"
    )
    assert ended.err.count(warning) == 1
