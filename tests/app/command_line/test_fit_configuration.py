"""A checkpoint's stored options: no text in them makes the parser import a module or read a file."""

from typing import Any

import pytest

from app.command_line.fit_configuration import fit_configuration

OPTIONS = ["trainer.plugins", "trainer.strategy", "trainer.max_steps", "checkpoint.monitor", "config", "weights_only"]


def _taken(configuration: dict[str, Any]) -> dict[str, Any]:
    checkpoint = {
        "hyper_parameters": {"_class_path": "modules.ProtoNet"},
        "datamodule_hyper_parameters": {"_class_path": "datamodules.ImageFolder", "seed": 0},
        "configuration": configuration,
    }
    config = fit_configuration(checkpoint, ["fit"], OPTIONS)
    return {name: value for name, value in config.items() if name not in ("model", "data", "seed_everything")}


@pytest.mark.parametrize("text", ["evil.Plug", '["evil.Plug"]', "{class_path: evil.Plug}", "/tmp/evil", "evil.yaml"])
def test_a_text_that_could_name_a_class_or_a_file_is_left_out(text: str) -> None:
    assert _taken({"trainer": {"plugins": text, "strategy": "ddp", "max_steps": 6}}) == {
        "trainer": {"strategy": "ddp", "max_steps": 6}
    }


def test_options_of_the_command_itself_are_left_out() -> None:
    stored = {
        "config": '{"trainer": {"plugins": "evil.Plug"}}',
        "weights_only": False,
        "ckpt_path": "x",
        "resume": "auto",
    }
    own = {"checkpoint": {"monitor": "val/accuracy"}}
    assert _taken(stored | own) == own
