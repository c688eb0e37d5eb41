"""The help of options that no constructor documents."""

CHECKPOINT_HELP = {
    "ckpt_path": "A checkpoint, a run's folder, its checkpoints folder, or the word best or last.",
    "weights_only": "Always: nothing in a checkpoint is executed.",
}
RESUME_HELP = """"auto": resume the newest run of this name, configuration and data, from its last sound checkpoint,
    or begin one. A run with fewer steps is taken for the beginning of this one if its learning rates are the same. For
    jobs that are started again by the same command."""
MATMUL_PRECISION_HELP = """Of products of float32 matrices and of float32 convolutions. "highest": exact. "high": on a
    GPU in TF32, several times as fast, with 10 bits of each factor after the point. "medium": on a GPU as "high", on a
    CPU with bfloat16 factors."""
