"""`export`: from a checkpoint and a user's folders of support images to files for programs without this one."""

import json
from pathlib import Path
from typing import Any

from app.application import Application
from app.command_line.command_check import check_user_classes
from app.command_line.own_command import OwnCommand
from app.process.signals import StopSignals
from app.runs.folder import run_of
from app.user_classes.answers import NEVER, Answers
from app.user_classes.calibration import calibration_for
from app.user_classes.export import export_classifier
from app.user_classes.likeness import likeness_for
from app.user_classes.model_card import CardFacts
from datamodules import SupportQuery
from modules import Learner
from modules.learner.classifier import check_classes


def main(arguments: list[str], signals: StopSignals) -> None:
    """Runs the command.

    Args:
        arguments: The command line without the program's name.
        signals: Those that end it.
    """
    Application(arguments, signals, OwnCommand(export, check_user_classes))


def export(application: Application, ckpt_path: str | None = None, weights_only: bool | None = True) -> None:
    """Write a checkpoint's learner, adapted to a user's classes, as ONNX and torch.export files.

    Args:
        application: With learner, data and Trainer; the learner's weights are still to be loaded.
        ckpt_path: A checkpoint, a run's folder, or the word best or last.
        weights_only: Always: nothing in a checkpoint is executed.
    """
    if not application.trainer.is_global_zero:  # started by a launcher of several processes
        return
    model: Learner = application.model
    data: SupportQuery = application.datamodule
    check_classes(model, len(data.class_names))
    answers = application.answers
    model.on_load_checkpoint(answers.checkpoint)
    model.load_state_dict(answers.checkpoint["state_dict"])
    model.to(application.trainer.strategy.root_device).eval()
    facts = _facts(model, data, answers, Path(ckpt_path or ""))
    model.cpu().float()
    for path in export_classifier(model, data.support(), facts, answers.run.path):
        print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


def _facts(model: Learner, data: SupportQuery, answers: Answers, path: Path) -> CardFacts:
    accuracy, unsure_below = answers.accuracy, answers.unsure_below
    calibration = calibration_for(model, answers.checkpoint, len(data.class_names), min(data.class_sizes))
    said: dict[str, Any] = {"unsure_below": unsure_below}
    if calibration is not None:
        tasks = f"{calibration.n_tasks} {calibration.shape} validation tasks"
        said |= {"temperature": calibration.temperature, "calibration": f"Calibrated on {tasks}."}
        if unsure_below is None:
            found = calibration.threshold(accuracy)
            said["unsure_below"] = NEVER if found is None else found
            share = f"{accuracy:.0%} of the answers"
            said["calibration"] = (
                f"On {tasks} {share} from there on are right; {calibration.share(found):.0%} of all are there."
                if found is not None
                else f"On {tasks} no probability made {share} right: take every answer as unsure."
            )
    said |= _likeness(model, data, answers)
    trained = answers.checkpoint["datamodule_hyper_parameters"]
    return CardFacts(
        checkpoint="/".join(path.absolute().parts[-4:]),  # NAME/VERSION/checkpoints/FILE
        method=type(model).__name__,
        global_step=answers.checkpoint["global_step"],
        data=trained["_class_path"].rpartition(".")[2],
        training=trained,
        results=_results_of(path),
        class_names=data.class_names,
        class_sizes=data.class_sizes,
        input_spec=data.input_spec(),
        **said,
    )


def _likeness(model: Learner, data: SupportQuery, answers: Answers) -> dict[str, str]:
    """Returns what a card says of images unlike the training data, which the files answer as confidently as others."""
    found = likeness_for(model, answers.checkpoint, len(data.class_names), min(data.class_sizes))
    if found is None:
        return {}
    share = f"{answers.unlike_below:g} of the queries of {found.n_tasks} validation tasks"
    return {
        "likeness": "These files do not see whether an image is like the training data at all: a confident answer "
        "for an image of another kind means nothing. `predict` sees it: it calls an image unsure that is farther "
        f"from the support images and from what the network knows than all but a share of {share}."
    }


def _results_of(checkpoint: Path) -> dict[str, Any] | None:
    """The results of a checkpoint's run, if it has some."""
    run = run_of(checkpoint)
    file = run.path / "results.json" if run else None
    if file is None or not file.is_file():
        return None
    results: dict[str, Any] = json.loads(file.read_text())
    return results
