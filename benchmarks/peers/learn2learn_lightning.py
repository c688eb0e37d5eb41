"""learn2learn's own example loop for Lightning, examples/vision/lightning/main.py with --algorithm maml, as a program.

Its LightningMAML and EpisodicBatcher train in a Trainer that accumulates one task after another. What differs from the
file, which is written for Lightning 1:

- `Trainer.from_argparse_args` and `gpus` are gone: the arguments are given directly. Evaluation runs without
  inference_mode, which LightningMAML's inner gradients do not survive.
- TrackTestAccuracyCallback is left out: Lightning 2 allows no test inside a fit, and it would add a test to every
  validation. The progress bar is Lightning's.
- The tasks come from Omniglot's images in memory, normalised and turned already, where its Omniglot benchmark decodes
  PNG files, and the network is ours, so that both sides compute the same.
- An epoch is `--steps_per_validation` outer steps (10 in the file), and validation has `--validation_tasks` of its own
  where the file takes as many as an epoch of training.
"""

import argparse
import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

NAME = "learn2learn Lightning"


def main() -> None:
    """Trains, validates and tests; prints the test's accuracy."""
    given = arguments()
    pl.seed_everything(0)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # gym's notice of its end of life
        warnings.simplefilter("ignore")
        from learn2learn.algorithms import LightningMAML
    algorithm = LightningMAML(network(), lr=1e-3, adaptation_lr=0.4, adaptation_steps=1)
    trainer = pl.Trainer(
        max_steps=given.steps,
        accumulate_grad_batches=given.tasks,
        accelerator="gpu" if given.device == "cuda" else "cpu",
        devices=1,
        default_root_dir=given.folder,
        inference_mode=False,
        num_sanity_val_steps=0,
        max_epochs=-1,
    )
    data = tasks(given)
    trainer.fit(algorithm, datamodule=data)
    (result,) = trainer.test(algorithm, datamodule=data, ckpt_path="best", verbose=False)
    print(f"test_accuracy {result['test_accuracy']:.4f}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds omniglot/")
    parser.add_argument("--folder", type=Path, required=True, help="where logs and checkpoints go")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, required=True, help="outer steps")
    parser.add_argument("--tasks", type=int, default=32, help="tasks of an outer step")
    parser.add_argument("--steps_per_validation", type=int, default=10)
    parser.add_argument("--validation_tasks", type=int, default=320)
    return parser.parse_args()


def network() -> torch.nn.Module:
    """The network of configs/maml_omniglot_5w1s.yaml."""
    from modules import Conv4
    from modules.learner.gradient_learner import with_linear_head

    return with_linear_head(Conv4(filters=64, downsample="stride", reduce="mean"), 5)


def tasks(given: argparse.Namespace) -> Any:
    """Its EpisodicBatcher over tasks of the same images and splits as ours."""
    from learn2learn.utils.lightning import EpisodicBatcher

    from benchmarks.omniglot_images import omniglot, split_images
    from benchmarks.peers.learn2learn_tasks import taskset

    data = omniglot(given.data)
    train, validation, test = (
        taskset(*split_images(data, split), n_way=5, n_samples=2) for split in ("train", "val", "test")
    )

    class Batcher(EpisodicBatcher):
        def val_dataloader(self) -> Any:
            return self.epochify(self.validation_tasks, given.validation_tasks)

        def test_dataloader(self) -> Any:
            return self.epochify(self.test_tasks, given.validation_tasks)

    return Batcher(train, validation, test, epoch_length=given.tasks * given.steps_per_validation)


if __name__ == "__main__":
    main()
