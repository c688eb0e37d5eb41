"""Each command in deploy/ is one that the program takes, down to its last option."""

import shlex

import pytest

from app import cli
from app.command_line.arguments import check_arguments, config_files, option_values
from tests.deploy.manifests import ROOT, compose, training_pods

COMMANDS = {pod.name: pod.container["args"] for pod in training_pods()}
COMMANDS["compose"] = compose("compose.yaml")["services"]["train"]["command"]
COMMANDS["compose, four GPUs"] = compose("compose.yaml", {"GPUS": "4"})["services"]["train"]["command"]
COMMANDS["compose, no GPU"] = compose("compose.cpu.yaml")["services"]["train"]["command"]
each_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=list(COMMANDS))


@each_command
def test_files_are_there(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    check_arguments(command, cli.COMMANDS)
    assert config_files(command)


@each_command
def test_can_be_started_again(command):
    assert command[0] == "fit"
    assert option_values(command, "--resume") == ["auto"]


@each_command
def test_options_are_the_programs(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["train.py"])
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--print_config"])
    output = capsys.readouterr()
    assert ended.value.code in (None, 0), f"{shlex.join(command)}: {output.err}"
    assert "trainer:" in output.out
