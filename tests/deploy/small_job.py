"""A training that two processes finish in some ten seconds, with a checkpoint about every second."""

SMALL_JOB = (
    "--config=configs/maml_glyphs_5w1s.yaml",
    "--trainer.accelerator=cpu",
    "--trainer.max_steps=150",
    "--trainer.val_check_interval=25",
    "--trainer.log_every_n_steps=5",
    "--data.meta_batch_size=4",
    "--data.evaluation.n_val_tasks=8",
    "--data.evaluation.n_test_tasks=16",
    "--model.backbone.filters=8",
    "--checkpoint.every_minutes=0.02",
)
