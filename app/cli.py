"""`main`: what `python train.py ...` runs. Nothing heavy is imported before the command line has been looked at."""

import gc
import sys
from collections.abc import Sequence
from typing import Any

from app.arguments import check_arguments
from app.errors import one_line_errors
from app.signals import StopSignals

OVERVIEW = """\
usage: python train.py COMMAND [options]

Quickstudy trains models that learn new classes from a handful of examples.

commands:
  fit        train, then test the best checkpoint; without --config: configs/maml_glyphs_5w1s.yaml
  validate   evaluate a checkpoint on the validation tasks
  test       evaluate a checkpoint on the test tasks
  predict    learn your own classes from a few images of each and classify others; or answer the test tasks
  export     adapt a checkpoint to your own classes and write the classifier for ONNX Runtime and PyTorch

examples:
  python train.py fit
  python train.py fit --config configs/maml_omniglot_5w1s.yaml --model.inner_lr 0.3 --trainer.devices 2
  python train.py fit --config configs/maml_omniglot_5w1s.yaml --resume auto    goes on where it was stopped, or begins
  python train.py fit --ckpt_path runs/maml_glyphs_5w1s/0 --trainer.max_steps 800    trains on what is there
  python train.py test --ckpt_path runs/maml_glyphs_5w1s/0 --data.evaluation.n_test_tasks 2000
  python train.py predict --ckpt_path best --data SupportQuery --data.support my_classes --data.query my_images
  python train.py export --ckpt_path runs/maml_glyphs_5w1s/0 --data SupportQuery --data.support my_classes

`python train.py COMMAND --help` lists a command's options, `python train.py fit --model.help MAML` a method's,
and `python train.py fit --data.help Omniglot` a data set's. QUICKSTUDY_DEBUG=1 shows an error's traceback.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command; ends in SystemExit where it fails, after one line on stderr.

    Args:
        args: The command line without the program's name; None: sys.argv's.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(OVERVIEW, end="")
        return
    with one_line_errors(), StopSignals() as signals:
        check_arguments(arguments)
        _application()(arguments, signals)


def _application() -> Any:
    """Imports what takes seconds; without the garbage collector, which would take a quarter of them to find nothing."""
    gc.disable()
    try:
        from app.application import Application
    finally:
        gc.enable()
    return Application
