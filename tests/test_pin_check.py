"""The check of the pins: what it reads, what it refuses, and that it passes without pip-audit or its service."""

import datetime
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests import pin_check
from tests.pin_check import check_exceptions, judge, main, read_pins, run_audit

TODAY = datetime.date(2026, 6, 1)
PINS = {"torch": "2.11.0", "rich": "15.0.0"}
ENTRY = {
    "ids": ["PYSEC-1", "CVE-1"],
    "package": "torch",
    "version": "2.11.0",
    "reason": "never called",
    "until": TODAY,
}


def audit(*vulnerabilities: dict[str, Any]) -> dict[str, Any]:
    """What pip-audit prints, of its version 2.10: one package with these vulnerabilities, and one without."""
    found = {"name": "torch", "version": "2.11.0", "vulns": list(vulnerabilities)}
    return {"dependencies": [found, {"name": "rich", "version": "15.0.0", "vulns": []}], "fixes": []}


def vulnerability(name: str, *aliases: str, fixed: str = "2.13.0") -> dict[str, Any]:
    return {"id": name, "fix_versions": [fixed] if fixed else [], "aliases": list(aliases), "description": "..."}


def test_the_repositorys_own_pins_pass(monkeypatch, capsys):
    monkeypatch.setattr(pin_check, "which", lambda _: None)
    assert main() == 0
    assert capsys.readouterr() == ("pins: not looked up for known vulnerabilities: pip-audit is not installed\n", "")


def test_pins_are_read():
    text = '# a\n-r x.txt\nTorch_Vision==0.26.0  # b\njson[sig]==4.53.0\n\nl2l==0.2.0 --config-settings="--build=x"\n'
    assert read_pins(text, "r.txt") == ({"torch-vision": "0.26.0", "json": "4.53.0", "l2l": "0.2.0"}, [])


@pytest.mark.parametrize("line", ["torch", "torch>=2", "torch==2.*", "torch~=2.1", "git+https://host/x", "torch==2,<3"])
def test_what_is_not_pinned_exactly_is_named(line):
    assert read_pins(f"\n{line}\n", "r.txt")[1] == [f"r.txt:2: {line} is not pinned exactly: write NAME==VERSION"]


def test_a_good_exception_passes_until_its_last_day():
    assert check_exceptions([ENTRY], PINS, TODAY) == []
    (fault,) = check_exceptions([ENTRY], PINS, TODAY + datetime.timedelta(days=1))
    assert "PYSEC-1 was let pass until 2026-06-01" in fault


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reason": ""}, "look at reason"),
        ({"ids": "PYSEC-1"}, "look at ids"),
        ({"until": "2026-06-01"}, "look at until"),
        ({"note": "more"}, "look at the rest"),
        ({"package": "numpy"}, "numpy==2.11.0 is not pinned any more"),
        ({"version": "2.12.0"}, "torch==2.12.0 is not pinned any more"),
    ],
)
def test_a_bad_exception_is_named(change, says):
    (fault,) = check_exceptions([ENTRY | change], PINS, TODAY)
    assert says in fault
    assert "entry 1" in fault


def test_vulnerabilities_need_an_exception_by_any_of_their_names():
    assert judge(audit(vulnerability("GHSA-1", "CVE-1")), [ENTRY]) == ([], [])
    assert judge(audit(vulnerability("PYSEC-1")), [ENTRY]) == ([], [])
    assert judge(audit(vulnerability("GHSA-2", "CVE-2")), []) == ([], ["torch==2.11.0: GHSA-2, fixed in 2.13.0"])
    other = ENTRY | {"package": "rich", "version": "15.0.0"}
    _, faults = judge(audit(vulnerability("GHSA-1", "CVE-1", fixed="")), [other])
    assert faults[0] == "torch==2.11.0: GHSA-1, fixed in no version yet"


def test_an_exception_that_nothing_needs_is_named_unless_the_package_was_skipped():
    assert judge(audit(), [ENTRY])[1] == [
        "requirements-exceptions.toml: PYSEC-1 is not reported any more: remove the entry"
    ]
    skipped = {"dependencies": [{"name": "torch", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}
    assert judge(skipped, [ENTRY]) == (["torch"], [])


# ---- pip-audit itself, played by a script


@pytest.fixture
def program(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "pip-audit"
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return path


def write(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_pip_audit_is_given_every_pin_and_its_answer_is_read(program):
    answer = audit(vulnerability("GHSA-2"))
    write(program, f'cp "$2" "$0.seen"; echo \'{json.dumps(answer)}\'; exit 1')  # 1: it has found something
    assert run_audit(PINS) == answer
    assert program.with_name("pip-audit.seen").read_text() == "torch==2.11.0\nrich==15.0.0\n"


def test_a_vulnerability_fails_lint(program, capsys):
    write(program, f"echo '{json.dumps(audit(vulnerability('GHSA-2')))}'; exit 1")
    assert main() == 1
    assert "pins: torch==2.11.0: GHSA-2, fixed in 2.13.0\n" in capsys.readouterr().err


SKIPPED = '{"dependencies": [{"name": "torch", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}'


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo Traceback >&2; exit 1", "service does not answer"),
        ("exec sleep 60", "did not answer within 0.2 s"),
        (f"echo '{SKIPPED}'", "knows none of the packages"),  # as success: it finds "no known vulnerabilities"
    ],
)
def test_without_its_service_lint_passes_and_says_so_in_one_line(program, monkeypatch, capsys, script, says):
    monkeypatch.setattr(pin_check, "SECONDS", 0.2 if "sleep" in script else 20)
    write(program, script)
    assert main() == 0
    out, err = capsys.readouterr()
    assert says in out
    assert (out.count("\n"), err) == (1, "")
