"""`export`: from a checkpoint and a user's folders of support images to files for programs without this one."""

import json
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer

from app.own_classes.answers import NEVER, Answers
from app.own_classes.calibration import calibration_for
from app.own_classes.export import export_classifier
from app.own_classes.likeness import likeness_for
from app.own_classes.model_card import CardFacts
from app.runs.folder import RunFolder, run_of
from datamodules import SupportQuery
from modules import Learner
from modules.classifier import check_classes


class ExportTrainer(Trainer):
    """Lightning's Trainer with one command more."""

    def prepare(self, run: RunFolder, checkpoint: dict[str, Any], answers: Answers) -> None:
        """Takes where to write, what was loaded, and when an answer is to be called sure."""
        self.run, self.checkpoint, self.answers = run, checkpoint, answers

    def export(
        self,
        model: Learner,
        datamodule: SupportQuery,
        ckpt_path: str | None = None,
        weights_only: bool | None = True,
    ) -> None:
        """Write a checkpoint's learner, adapted to a user's classes, as ONNX and torch.export files.

        Args:
            model: The learner, whose weights are still to be loaded.
            datamodule: The user's support images, read.
            ckpt_path: A checkpoint, a run's folder, or the word best or last.
            weights_only: Always: nothing in a checkpoint is executed.
        """
        if not self.is_global_zero:  # started by a launcher of several processes
            return
        check_classes(model, len(datamodule.class_names))
        model.on_load_checkpoint(self.checkpoint)
        model.load_state_dict(self.checkpoint["state_dict"])
        facts = self._facts(model, datamodule, Path(ckpt_path or ""))
        model.cpu().float()
        for path in export_classifier(model, datamodule.support(), facts, self.run.path):
            print(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")

    def _facts(self, model: Learner, data: SupportQuery, path: Path) -> CardFacts:
        accuracy, unsure_below = self.answers.accuracy, self.answers.unsure_below
        model.to(self.strategy.root_device).eval()
        calibration = calibration_for(model, self.checkpoint, len(data.class_names), min(data.class_sizes))
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
        said |= self._likeness(model, data)
        trained = self.checkpoint["datamodule_hyper_parameters"]
        return CardFacts(
            checkpoint="/".join(path.absolute().parts[-4:]),  # NAME/VERSION/checkpoints/FILE
            method=type(model).__name__,
            global_step=self.checkpoint["global_step"],
            data=trained["_class_path"].rpartition(".")[2],
            training=trained,
            results=_results_of(path),
            class_names=data.class_names,
            class_sizes=data.class_sizes,
            input_spec=data.input_spec(),
            **said,
        )

    def _likeness(self, model: Learner, data: SupportQuery) -> dict[str, str]:
        """What a card says of images unlike the training data, which the files answer as confidently as others."""
        found = likeness_for(model, self.checkpoint, len(data.class_names), min(data.class_sizes))
        if found is None:
            return {}
        share = f"{self.answers.unlike_below:g} of the queries of {found.n_tasks} validation tasks"
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
