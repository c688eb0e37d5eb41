"""The Trainer's defaults here, and what it is refused before it starts."""

from typing import Any

import torch
from pytorch_lightning.accelerators import MPSAccelerator, XLAAccelerator

from app.command_line.arguments import LEARNERS_OWN
from app.process.errors import UsageError

# The beginnings of names: of strategies that divide a network's weights or are for other devices, and of those.
DIVIDING = (
    "fsdp",
    "deepspeed",
    "xla",
    "singledevicexla",
    "single_xla",
    "single_tpu",
    "modelparallel",
    "model_parallel",
)
OTHER_DEVICES = ("mps", "tpu", "xla", "hpu")
OTHER_ACCELERATORS: dict[str, Any] = {"tpu": XLAAccelerator, "mps": MPSAccelerator}  # that Lightning's "auto" prefers

DEFAULTS: dict[str, Any] = {
    "accelerator": "auto",
    "devices": 1,
    "max_epochs": -1,  # the task stream has no end
    "check_val_every_n_epoch": None,
    "val_check_interval": 500,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 50,
    "inference_mode": False,  # inner steps need gradients in evaluation too
    "use_distributed_sampler": False,  # the stream gives each rank its share
    "enable_model_summary": False,
}


def check_trainer_options(command: str, options: dict[str, Any]) -> None:
    """Refuses what Lightning would ignore, change or fail on late.

    Args:
        command: "fit", ...
        options: The trainer's part of the configuration.

    Raises:
        UsageError: Says which option, and what to set.
    """
    for name, unset in (("gradient_clip_val", None), ("gradient_clip_algorithm", None), ("accumulate_grad_batches", 1)):
        if options.get(name, unset) != unset:
            own = LEARNERS_OWN[f"trainer.{name}"]
            raise UsageError(f"trainer.{name} has no effect on a learner that steps by itself: set --{own}")
    if str(options.get("precision")) in ("16", "16-mixed", "16-true") and _on_cpu(options["accelerator"]):
        raise UsageError(f"trainer.precision {options['precision']} needs a GPU: on a CPU use bf16-mixed or 32-true")
    _check_strategy(options)
    if options.get("barebones"):
        raise UsageError("trainer.barebones leaves out logs and checkpoints, which a run consists of: leave it out")
    if options.get("enable_checkpointing") is False:
        raise UsageError(
            "trainer.enable_checkpointing cannot be false, as a run's results are those of its checkpoints: leave it "
            "out, or set --checkpoint.save_top_k 0 and --checkpoint.every_minutes null for fewer of them"
        )
    devices = str(options["devices"])
    if devices == "0" or (devices.startswith("-") and devices != "-1"):
        raise UsageError(f"trainer.devices must be at least 1, or -1 for all there are, got {devices}")
    if command == "fit":
        _check_length(options)


def check_counts(data: dict[str, Any]) -> None:
    """Refuses a task of nothing before a network is built for it.

    Args:
        data: The data module's arguments.

    Raises:
        UsageError: If a count is not positive.
    """
    for name in ("n_way", "k_shot", "n_query", "meta_batch_size"):
        values = data.get(name, 1)
        if min(values if isinstance(values, list) and values else [values or 0]) < 1:
            raise UsageError(f"data.{name} must be at least 1, got {data[name]}")


def _check_length(options: dict[str, Any]) -> None:
    max_steps, interval = options["max_steps"], options["val_check_interval"]
    if max_steps == 0 or max_steps < -1:
        raise UsageError(f"trainer.max_steps must be at least 1, got {max_steps}")
    if max_steps == -1 and options.get("max_time") is None and not options.get("fast_dev_run"):
        raise UsageError("how long to train is not said: set --trainer.max_steps, the number of outer steps")
    if options.get("max_epochs") not in (-1, None):
        raise UsageError("trainer.max_epochs does not apply: a training counts outer steps; set --trainer.max_steps")
    if interval is not None and not (isinstance(interval, int) and interval > 0):
        raise UsageError(f"trainer.val_check_interval counts outer steps and must be at least 1, got {interval}")
    if options.get("limit_train_batches") == 0:
        raise UsageError("trainer.limit_train_batches = 0 trains nothing: leave it out, or use the command test")
    if (options.get("log_every_n_steps") or 0) < 0:
        raise UsageError(f"trainer.log_every_n_steps must be 0 (never) or more, got {options['log_every_n_steps']}")


def _check_strategy(options: dict[str, Any]) -> None:
    """Refuses weights divided over devices, and devices that lack what is needed, also where they would be chosen."""
    strategy, accelerator = (_name(options.get(key) or "auto") for key in ("strategy", "accelerator"))
    if strategy.lower().startswith(DIVIDING):
        raise UsageError(
            f"trainer.strategy {strategy} is not supported, as each device, a CPU or a CUDA GPU, must hold the whole "
            "learner: set --trainer.strategy ddp"
        )
    chosen = accelerator
    if accelerator == "auto":
        chosen = next((name for name, kind in OTHER_ACCELERATORS.items() if kind.is_available()), accelerator)
    elif accelerator == "gpu" and MPSAccelerator.is_available():
        chosen = "mps"
    if chosen.lower().startswith(OTHER_DEVICES):
        which = chosen if chosen == accelerator else f"{accelerator}, here {chosen},"
        raise UsageError(
            f"trainer.accelerator {which} is not supported, as scores are summed in float64: set --trainer.accelerator "
            "cpu"
        )


def _name(value: Any) -> str:
    """Of an option that is a word or a class: "ddp", or "lightning...FSDPStrategy" as "FSDPStrategy"."""
    path = value.get("class_path", "") if isinstance(value, dict) else value
    return (path if isinstance(path, str) else type(path).__name__).rpartition(".")[2]


def _on_cpu(accelerator: Any) -> bool:
    return accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
