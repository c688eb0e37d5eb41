"""A drawn task and a learner for it, made once for all tests here."""

import os
from pathlib import Path

import pytest

from app.cli import main
from tests.app.user_classes.drawn_task import SHAPES, draw
from tests.made_once import made_once


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes of 1 to 3 support images, and twelve queries in folders of their names."""
    root = tmp_path_factory.mktemp("task")
    draw(root / "support", {"cross": 3, "hook": 1, "line": 2, "roof": 2}, 0)
    draw(root / "query", dict.fromkeys(SHAPES, 3), 1)
    return root


@pytest.fixture(scope="session")
def protonet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ProtoNet trained for a while on glyphs: good enough for strokes."""
    return next((made_once(tmp_path_factory, "protonet", train_protonet) / "runs").glob("*/0"))


def train_protonet(root: Path) -> None:
    before = Path.cwd()
    os.chdir(root)
    try:
        main(
            [
                "fit", "--model=ProtoNet", "--trainer.accelerator=cpu", "--trainer.max_steps=60",
                "--trainer.val_check_interval=60", "--trainer.logger=false", "--data=Glyphs", "--data.n_way=10",
                "--data.k_shot=1", "--data.n_query=3", "--data.meta_batch_size=1", "--data.evaluation.n_way=5",
                "--data.evaluation.n_val_tasks=40", "--data.evaluation.n_test_tasks=20",
                "--model.backbone=Conv4", "--model.backbone.filters=16", "--model.backbone.running_stats=true",
                "--model.outer.schedule=constant",
            ]
        )  # fmt: skip
    finally:
        os.chdir(before)
