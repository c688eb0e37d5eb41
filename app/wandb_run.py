"""Weights & Biases: online where the user is logged in, else offline; never a prompt, never a crash."""

import netrc
import os
import secrets
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

PROJECT = "quickstudy"
X_AXIS = "trainer/global_step"


class RunDashboard(WandbLogger):
    """A W&B run whose configuration is the command line's, in one place, and that a failing W&B cannot stop.

    Args:
        run: What `wandb.init` returned.
        folder: The run's folder.
    """

    def __init__(self, run: Any, folder: Path) -> None:
        super().__init__(experiment=run, save_dir=str(folder), name=run.name, id=run.id)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        return self._experiment

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """The whole configuration was given at the start."""

    def add_results(self, results: dict[str, Any]) -> None:
        """Puts the test's result into the run's summary, and draws the adaptation curve."""
        import wandb

        self.experiment.summary.update(columns({results["split"]: results}))
        curve = [(int(step), accuracy) for step, accuracy in results["adaptation_curve"].items()]
        if curve:
            table = wandb.Table(data=curve, columns=["inner step", "query accuracy"])
            title = "query accuracy after each inner step"
            plot = wandb.plot.line(table, "inner step", "query accuracy", title=title)
            self.experiment.log({"test/adaptation_curve": plot, X_AXIS: results["global_step"]})

    def finish(self, failed: bool) -> None:
        """Ends the W&B run; what cannot be uploaded stays in the run's folder."""
        with suppress(Exception):
            self.experiment.finish(exit_code=int(failed))


def start_wandb(folder: Path, name: str, config: dict[str, Any]) -> Logger | None:
    """Starts or resumes the run's W&B run; None where it is disabled or cannot start.

    Args:
        folder: The run's folder; wandb/ and wandb_id go there.
        name: The run's name on the dashboard.
        config: The resolved configuration.
    """
    mode = wandb_mode()
    if mode == "disabled":
        return None
    try:
        run = _init(folder, name, columns(config), mode)
    except Exception as error:  # whatever W&B cannot do, the training can go on
        print(f"W&B did not start, metrics.csv is written all the same: {str(error).splitlines()[0]}", file=sys.stderr)
        return None
    run.define_metric(X_AXIS)
    run.define_metric("*", step_metric=X_AXIS, step_sync=True)
    (folder / "wandb_id").write_text(run.id + "\n")
    where = run.url if mode == "online" else f"offline; upload with: wandb sync {_shown(run.dir)}"
    print(f"W&B: {where}")
    return RunDashboard(run, folder)


def _init(folder: Path, name: str, config: dict[str, Any], mode: str) -> Any:
    import wandb  # takes a second

    stored = folder / "wandb_id"
    run_id = stored.read_text().strip() if stored.is_file() else secrets.token_hex(4)
    settings = wandb.Settings(silent=True, console="off", init_timeout=30)
    arguments: dict[str, Any] = {
        "project": os.environ.get("WANDB_PROJECT", PROJECT),
        "dir": str(folder.absolute()),  # W&B's own process may have another working directory
        "id": run_id,
        "name": os.environ.get("WANDB_NAME", name),
        "config": config,
        "mode": mode,
        "resume": "allow" if mode == "online" else None,
        "settings": settings,
        "reinit": "finish_previous",
    }
    try:
        return wandb.init(**arguments)
    except Exception:
        if mode != "online":
            raise
        return wandb.init(**(arguments | {"mode": "offline", "resume": None}))


def wandb_mode() -> str:
    """What WANDB_MODE says; else "online" with a login and a network, else "offline"."""
    asked = os.environ.get("WANDB_MODE")
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "disabled"
    if asked:
        return {"dryrun": "offline", "run": "online"}.get(asked, asked)
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or "api.wandb.ai"
    return "online" if _logged_in(host) and _reachable(host) else "offline"


def columns(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration as W&B's columns: `model/inner_lr`, `data/evaluation/n_test_tasks`, `trainer/max_steps`, ...

    A class is the value of its own name, and its arguments stand beside it: `model` is "modules.MAML". W&B takes a dot
    in a name for a nested value, and then neither sorts nor filters by it.
    """
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict) and "class_path" in value:
            flat[name] = value["class_path"]
            value = value.get("init_args") or {}
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": leaf for inner, leaf in columns(value).items()}
        elif name not in flat:
            flat[name] = value
    return flat


def _logged_in(host: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _reachable(host: str) -> bool:
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True  # the proxy resolves the name
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return False
    return True


def _shown(folder: str) -> str:
    return os.path.relpath(Path(folder).parent)
