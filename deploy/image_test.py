"""Builds the image and tries it as a cluster would run it: python3 -m deploy.image_test --engine docker|podman|buildah

Everything runs as user 1000 on a read-only root file system, with no capability; only /app/runs, /data, /tmp and the
home folder can be written. Needs Python 3.11 and the engine, no package; buildah needs root. `make image-test` runs it.
"""

import argparse
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from deploy.engine import ENGINES, Engine, Setting, open_engine

ROOT = Path(__file__).resolve().parents[1]
AUDIT = (ROOT / "deploy" / "image_audit.py").read_text(encoding="utf-8")
ROOTS = ("/usr", "/var", "/app", "/opt/venv")
VOLUMES = ("/app/runs", "/data", "/packages")
STEPS = 40
JOB = (
    "fit",
    "--config=configs/maml_glyphs_5w1s.yaml",
    "--trainer.accelerator=cpu",
    f"--trainer.max_steps={STEPS}",
    "--trainer.val_check_interval=10",
    "--data.evaluation.n_val_tasks=20",
    "--data.evaluation.n_test_tasks=50",
    "--resume=auto",
)
JOB_SETTING = Setting(entrypoint=True, env={"WANDB_MODE": "offline"})
RUN = "/app/runs/maml_glyphs_5w1s"
TESTS = ("tests/app/process/test_errors.py", "tests/app/test_run.py", "tests/modules/functional")


class Failure(Exception):
    """The image does not do what it should."""


class Trial:
    """The steps that an image goes through.

    Args:
        engine: Runs the containers.
        image: The image.
    """

    def __init__(self, engine: Engine, image: str) -> None:
        self.engine = engine
        self.image = image

    def run(self, *command: str, setting: Setting | None = None, expected: int = 0, stop_at: str | None = None) -> str:
        """Runs a command in a new container and shows its output.

        Args:
            command: The command, or what follows the image's entry point.
            setting: What the container is given; None: nothing, and the output is not shown.
            expected: The exit code.
            stop_at: Send SIGTERM at the first line that holds this.

        Returns:
            The output.

        Raises:
            Failure: If the exit code is another.
        """
        process = self.engine.start(self.image, command, setting or Setting())
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if setting is not None:
                print(f"    {line}", end="", flush=True)
            if stop_at is not None and stop_at in line:
                process.send_signal(signal.SIGTERM)
                stop_at = None
        code = process.wait()
        if code != expected:
            raise Failure(f"{' '.join(command)[:200]}: exit code {code} instead of {expected}\n{''.join(lines[-20:])}")
        return "".join(lines)

    def audit(self) -> None:
        """Looks at what is in the image."""
        found = json.loads(self.run("python", "-c", AUDIT).splitlines()[-1])
        config = self.engine.config(self.image)
        if config.get("User") in (None, "", "root", "0"):
            found["findings"].append("its own user is root")
        parts: dict[str, int] = found["parts"]
        print(f"    {sum(parts[folder] for folder in ROOTS):>6} MB in all")
        for path, size in list(parts.items())[:20]:
            print(f"    {size:>6} MB  {path}")
        if found["findings"]:
            raise Failure("\n".join(found["findings"]))

    def train(self) -> None:
        """Trains, is stopped on the way, goes on, and has nothing left to do the third time."""
        self.run(*JOB, expected=128 + signal.SIGTERM, stop_at=f"step 20/{STEPS}", setting=JOB_SETTING)
        if self.results():
            raise Failure("the run that was stopped has a result")
        self.run(*JOB, setting=JOB_SETTING)
        first = self.results()
        if len(first) != 1 or first[0]["global_step"] > STEPS:
            raise Failure(f"one run's result was expected in {RUN}, and there is {first}")
        print(f"    accuracy {first[0]['accuracy']:.2%} on {first[0]['n_tasks']} tasks")
        self.run(*JOB, setting=JOB_SETTING)
        if len(self.results()) != 1:
            raise Failure("the same command with --resume auto began another run")

    def results(self) -> list[dict[str, Any]]:
        """Returns what the runs' results.json hold."""
        program = f"import glob; print('[' + ','.join(open(f).read() for f in glob.glob('{RUN}/*/results.json')) + ']')"
        return json.loads(self.run("python", "-c", program))

    def test(self, tests: list[str]) -> None:
        """Runs tests, with pytest from a volume: the image holds neither."""
        pins = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
        pytest = re.findall(r"^pytest==\S+", pins, re.MULTILINE)
        self.run("pip", "install", "--quiet", "--no-cache-dir", "--target=/packages", *pytest)
        setting = Setting(env={"PYTHONPATH": "/packages"}, folders={"/app/tests": ROOT / "tests"})
        self.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests, setting=setting)


def main() -> int:
    """Builds and tries the image.

    Returns:
        0, or 1 where a step failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, default="docker")
    parser.add_argument("--image", default="quickstudy", help="the image's name (default: quickstudy)")
    parser.add_argument("--no-build", action="store_true", help="try the image that is there")
    parser.add_argument("--tests", nargs="*", default=list(TESTS), help="what pytest runs; nothing: no tests")
    options = parser.parse_args()
    engine = open_engine(options.engine, VOLUMES)
    trial = Trial(engine, options.image)
    steps = {"what is in it": trial.audit, "training": trial.train, "tests": lambda: trial.test(options.tests)}
    try:
        if not options.no_build:
            engine.build(ROOT, options.image)
        for name, step in steps.items():
            if name == "tests" and not options.tests:
                continue
            print(f"{options.image}: {name}", flush=True)
            begin = time.monotonic()
            step()
            print(f"{options.image}: {name}: passed in {time.monotonic() - begin:.0f} s", flush=True)
    except Failure as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    finally:
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
