"""The table of commands: what the overview says of them, and what runs one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app import cli
from app.cli import COMMANDS, Command, main

LIGHT = """
import json, sys
from app import cli
cli.COMMANDS["greet"] = cli.Command("say hello", "greeting:greet")
cli.main(["greet", "--loud"])
print(json.dumps([name for name in ("torch", "pytorch_lightning", "jsonargparse") if name in sys.modules]))
"""
GREETING = "def greet(arguments, signals):\n    print(arguments, signals.number)\n"


def test_the_overview_is_written_from_the_table(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert set(COMMANDS) == {"fit", "validate", "test", "predict", "export"}
    monkeypatch.setitem(COMMANDS, "compare", Command("say hello", "greeting:greet"))
    main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("commands:") + 1
    assert [line.split()[0] for line in lines[first : first + len(COMMANDS)]] == list(COMMANDS)
    assert lines[first + 5] == "  compare    say hello"
    assert lines[first + len(COMMANDS)] == ""


def test_every_command_lies_where_the_table_says() -> None:
    for command in COMMANDS.values():
        assert callable(cli._function_of(command))


def test_a_command_without_a_model_runs_without_torch(tmp_path: Path) -> None:
    (tmp_path / "greeting.py").write_text(GREETING)
    root = str(Path(__file__).parents[3])
    environment = {"PYTHONPATH": f"{root}:{tmp_path}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    greeting, imported = done.stdout.splitlines()
    assert greeting == "['greet', '--loud'] None"
    assert json.loads(imported) == []


def test_a_misspelt_command_is_one_line(run) -> None:
    ended = run("exprot")
    assert (ended.code, ended.err) == (2, "error: no command 'exprot'; did you mean export?\n")
