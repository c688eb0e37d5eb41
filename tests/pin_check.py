"""The check of the pins in `make lint`: exact, and without known vulnerabilities that no exception explains.

pip-audit is run where it is installed and its service answers; it is no requirement, because it would bring fourteen
packages into the environment: `pipx install pip-audit`. What needs no network is checked always. The exceptions are in
requirements-exceptions.toml.
"""

import datetime
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from shutil import which
from typing import Any

ROOT = Path(__file__).parents[1]
PIN = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[\w,-]+\])?==(?P<version>[0-9][\w.+!]*)(?:\s+--config-settings=\S+)?"
)
FIELDS = {"ids": list, "package": str, "version": str, "reason": str, "until": datetime.date}
SECONDS = 20  # for pip-audit; where there is no network it gives up by itself within two


def read_pins(text: str, file: str) -> tuple[dict[str, str], list[str]]:
    """Reads a requirements file.

    Args:
        text: Its content.
        file: Its name, for messages.

    Returns:
        Package -> version, and a line for each requirement that is not pinned exactly.
    """
    pins, faults = {}, []
    for number, line in enumerate(text.splitlines(), 1):
        requirement = re.sub(r"(^|\s)#.*", "", line).strip()
        if not requirement or requirement.startswith("-r "):
            continue
        if match := PIN.fullmatch(requirement):
            pins[re.sub(r"[-_.]+", "-", match["name"]).lower()] = match["version"]
        else:
            faults.append(f"{file}:{number}: {requirement} is not pinned exactly: write NAME==VERSION")
    return pins, faults


def check_exceptions(exceptions: list[dict[str, Any]], pins: dict[str, str], today: datetime.date) -> list[str]:
    """What is wrong with the exceptions: a field, a package or version that is not pinned, an end that is past.

    Args:
        exceptions: The entries of requirements-exceptions.toml.
        pins: Package -> version.
        today: The date.
    """
    faults = []
    for number, entry in enumerate(exceptions, 1):
        where = f"requirements-exceptions.toml, entry {number}"
        wrong = [name for name, kind in FIELDS.items() if not isinstance(entry.get(name), kind) or not entry[name]]
        if wrong or entry.keys() - FIELDS.keys():
            faults.append(
                f"{where}: needs {', '.join(FIELDS)} and nothing else; look at {', '.join(wrong) or 'the rest'}"
            )
        elif pins.get(entry["package"]) != entry["version"]:
            faults.append(f"{where}: {entry['package']}=={entry['version']} is not pinned any more: remove the entry")
        elif entry["until"] < today:
            faults.append(f"{where}: {entry['ids'][0]} was let pass until {entry['until']}: look at the advisory again")
    return faults


def judge(audit: dict[str, Any], exceptions: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Reads what pip-audit found.

    Args:
        audit: Its JSON.
        exceptions: The entries of requirements-exceptions.toml.

    Returns:
        The packages that it could not look up (it calls that a success), and a line for each fault: a vulnerability
        without an exception, an exception without a vulnerability.
    """
    skipped, faults, used = [], [], set()
    for package in audit["dependencies"]:
        if "skip_reason" in package:
            skipped.append(package["name"])
        for found in package.get("vulns", ()):
            names = {found["id"], *found.get("aliases", ())}
            allowed = [i for i, e in enumerate(exceptions) if e["package"] == package["name"] and names & set(e["ids"])]
            used.update(allowed)
            if not allowed:
                fixed = ", ".join(found.get("fix_versions", ())) or "no version yet"
                faults.append(f"{package['name']}=={package['version']}: {found['id']}, fixed in {fixed}")
    for i, entry in enumerate(exceptions):
        if i not in used and entry["package"] not in skipped:
            faults.append(f"requirements-exceptions.toml: {entry['ids'][0]} is not reported any more: remove the entry")
    return skipped, faults


def run_audit(pins: dict[str, str]) -> dict[str, Any] | str:
    """Asks pip-audit about the pins: its JSON, or why there is none."""
    program = which("pip-audit")
    if program is None:
        return "pip-audit is not installed"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:  # pip-audit cannot read learn2learn's line
        file.write("".join(f"{name}=={version}\n" for name, version in pins.items()))
        file.flush()
        command = [program, "-r", file.name, "--no-deps", "--disable-pip", "-f", "json", "--timeout", "5"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            audit: dict[str, Any] = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return f"pip-audit did not answer within {SECONDS} s"
        except (OSError, ValueError):
            return "pip-audit's service does not answer"
    if all("skip_reason" in package for package in audit["dependencies"]):
        return "pip-audit's service knows none of the packages"
    return audit


def main() -> int:
    """Prints what is wrong, one line each; returns the exit status."""
    pins: dict[str, str] = {}
    faults: list[str] = []
    for file in sorted(ROOT.glob("requirements*.txt")):
        own, wrong = read_pins(file.read_text("utf-8"), file.name)
        twice = [
            f"{file.name}: {name} has another pin elsewhere" for name in own if pins.get(name, own[name]) != own[name]
        ]
        pins, faults = pins | own, faults + wrong + twice
    try:
        exceptions = tomllib.loads((ROOT / "requirements-exceptions.toml").read_text("utf-8")).get("exception", [])
    except tomllib.TOMLDecodeError as error:
        exceptions = []
        faults.append(f"requirements-exceptions.toml: {error}")
    faults += check_exceptions(exceptions, pins, datetime.date.today())
    audit = "the pins must be mended first" if faults else run_audit(pins)
    if isinstance(audit, str):
        print(f"pins: not looked up for known vulnerabilities: {audit}")
    else:
        skipped, faults = judge(audit, exceptions)
        if skipped:
            print(f"pins: not looked up for known vulnerabilities: {', '.join(skipped)}")
    for fault in faults:
        print(f"pins: {fault}", file=sys.stderr)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
