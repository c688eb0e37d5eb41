"""Wrong input ends in one line on stderr, an exit code, and nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

REPOSITORY = Path(__file__).parents[3]

# Arguments after `fit`, the exit code, and what the line must say.
WRONG = [
    (["--model.inner_lrr=3"], 2, "no option --model.inner_lrr; did you mean --model.inner_lr?"),
    (["--data.evaluation.n_test_taks=3"], 2, "did you mean --data.evaluation.n_test_tasks?"),
    (["--model.backbone.fliters=3"], 2, "did you mean --model.backbone.filters?"),
    (["--trainer.max_step=3"], 2, "did you mean --trainer.max_steps?"),
    (["--model=Mmal"], 2, "no class 'Mmal'"),
    (["--data=Glyhps"], 2, "did you mean Glyphs?"),
    (["--model.inner_lr=fast"], 2, "--model.inner_lr: expected float, got fast"),
    (["--model.outer.optimizer=adamm"], 2, "expected one of adam, sgd, got adamm"),
    (["--model.inner_lr"], 2, "--model.inner_lr needs a value"),
    (["stray"], 2, "unexpected argument 'stray'"),
    (["--model.n_way=3"], 2, "follows --data.n_way"),
    (["--config=configs/maml_glyph_5w1s.yaml"], 2, "did you mean"),
    (["--trainer.max_steps=0"], 2, "max_steps must be at least 1, got 0"),
    (["--trainer.max_steps=-1"], 2, "set --trainer.max_steps"),
    (["--trainer.max_epochs=3"], 2, "set --trainer.max_steps"),
    (["--trainer.val_check_interval=0"], 2, "must be at least 1, got 0"),
    (["--trainer.devices=0"], 2, "trainer.devices must be at least 1"),
    (["--trainer.precision=16-mixed"], 2, "needs a GPU"),
    (["--trainer.gradient_clip_val=1"], 2, "set --model.outer.clip_norm"),
    (["--trainer.accumulate_grad_batches=2"], 2, "set --model.outer.accumulate_batches"),
    (["--model.inner_lr=-0.1"], 1, "inner_lr must be positive, got -0.1"),
    (["--data.n_way=0"], 2, "data.n_way must be at least 1, got 0"),
    (["--data.meta_batch_size=-4"], 2, "data.meta_batch_size must be at least 1, got -4"),
    (["--data.evaluation.n_test_tasks=0"], 1, "n_test_tasks must be at least 1, got 0"),
    (["--early_stopping.patience=0"], 1, "patience must be at least 1, got 0"),
    (["--model.outer.cuda_graph=true", "--trainer.accelerator=cpu"], 1, "outer.cuda_graph needs a GPU"),
    (["--model.outer.task_strategy=batchd"], 2, "batchd"),
    (["--data.n_way=5000"], 1, "n_way = 5000 is more than"),
    (["--data.k_shot=15"], 1, "k_shot = 15"),
    (["--data=Omniglot", "--data.root=nowhere", "--data.download=false"], 1, "nowhere"),
    (["--trainer.logger=CSVLogger"], 2, "--trainer.logger CSVLogger needs save_dir: set --trainer.logger.save_dir"),
    (["--trainer.logger=CSVLoger"], 2, "--trainer.logger: there is no class 'CSVLoger'; did you mean CSVLogger?"),
    (["--trainer.callbacks=Timmer"], 2, "--trainer.callbacks: there is no class 'Timmer'; did you mean Timer?"),
    (["--trainer.plugins=nonsense"], 2, "--trainer.plugins: there is no class 'nonsense'"),
    (["--trainer.callbacks=Timer", "--trainer.callbacks.durration=3"], 2, "did you mean"),
    (["--trainer.barebones=true"], 2, "trainer.barebones leaves out logs and checkpoints"),
    (["--trainer.enable_checkpointing=false"], 2, "trainer.enable_checkpointing cannot be false"),
    (["--trainer.limit_train_batches=0"], 2, "trains nothing"),
    (["--trainer.log_every_n_steps=-1"], 2, "must be 0 (never) or more, got -1"),
    (["--trainer.val_check_interval=0.5"], 2, "counts outer steps and must be at least 1, got 0.5"),
    (["--ckpt_path=nowhere.ckpt"], 2, "nowhere.ckpt: there is no such file"),
]


def assert_one_line(ended, code: int, says: str) -> None:
    assert ended.err.startswith("error: "), ended.err
    assert says in ended.err
    assert ended.err.count("\n") == 1, ended.err
    assert ended.code == code
    assert "Subtypes" not in ended.err
    assert "Traceback" not in ended.err
    assert not Path("runs").exists(), list(Path("runs").rglob("*"))


@pytest.mark.parametrize(("arguments", "code", "says"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_wrong_arguments(run, tiny, arguments, code, says):
    assert_one_line(run("fit", *tiny, *arguments), code, says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: [\n", "wrong.yaml: not a YAML file"),
        ("modle: 3\n", "no option modle in wrong.yaml; did you mean model?"),
        ("trainer: {max_steps: 3}\n", "no data and no model given"),
        ("model: {class_path: modules.MAMLL}\ndata: {class_path: datamodules.Glyphs}\n", "did you mean MAML?"),
        (
            "model: {class_path: modules.MAML, init_args: {inner_lrr: 3}}\ndata: {class_path: datamodules.Glyphs}\n",
            "no option inner_lrr in wrong.yaml; did you mean model.inner_lr?",
        ),
        (
            "model: {class_path: modules.MAML, init_args: {inner_lr: x}}\ndata: {class_path: datamodules.Glyphs}\n",
            "model.inner_lr in wrong.yaml: expected float, got x",
        ),
    ],
)
def test_wrong_configuration_file(run, text, says):
    Path("wrong.yaml").write_text(text)
    assert_one_line(run("fit", "--config=wrong.yaml"), 2, says)


def test_unknown_command(run):
    assert_one_line(run("fti"), 2, "no command 'fti'; did you mean fit?")


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_commands_that_need_a_checkpoint(run, command):
    assert_one_line(run(command), 2, f"{command} needs --ckpt_path")
    assert_one_line(run(command, "--ckpt_path=best"), 2, "there is no run of maml_glyphs_5w1s in runs/")


@pytest.fixture
def checkpoint(run, tiny) -> Path:
    """A whole checkpoint, outside a run's folder."""
    assert run("fit", *tiny, "--trainer.max_steps=1", "--trainer.default_root_dir=elsewhere").code == 0
    return Path("elsewhere/maml_glyphs_5w1s/0/checkpoints/last.ckpt").rename("whole.ckpt")


def test_broken_and_foreign_checkpoints(run, tiny, checkpoint):
    Path("half.ckpt").write_bytes(checkpoint.read_bytes()[:-5000])
    torch.save({"state_dict": {}}, "foreign.ckpt")
    Path("text.ckpt").write_text("not a checkpoint\n" * 10)
    for file, says in (
        ("half.ckpt", "is not a checkpoint, or only a part of one"),
        ("text.ckpt", "is not a checkpoint, or only a part of one"),
        ("foreign.ckpt", "does not carry its configuration"),
    ):
        assert_one_line(run("test", f"--ckpt_path={file}"), 2, says)
        assert_one_line(run("fit", *tiny, f"--ckpt_path={file}"), 2, says)


def test_checkpoint_of_another_method_or_shape(run, checkpoint):
    says = "is a MAML, and the configuration asks for a ProtoNet"
    assert_one_line(run("test", f"--ckpt_path={checkpoint}", "--model=ProtoNet"), 2, says)
    ended = run("test", f"--ckpt_path={checkpoint}", "--data.n_way=7")
    assert_one_line(ended, 1, "MAML has 5 outputs, one for each class that it was trained with, but the val tasks")


def test_debug_shows_the_traceback(run, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_DEBUG", "1")
    with pytest.raises(Exception, match="no command 'fti'"):
        run("fti")


def test_mistakes_of_the_program_keep_their_traceback(run, monkeypatch):
    def mistake(*_):
        raise KeyError("forgotten")

    monkeypatch.setattr("app.cli._function_of", mistake)
    with pytest.raises(KeyError):
        run("fit")


def test_overview_needs_no_imports():
    code = "import sys; from app.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "usage: python train.py COMMAND" in ended.stdout


@pytest.mark.slow
def test_two_processes_share_one_folder_and_say_one_line(tmp_path):
    command = [sys.executable, str(REPOSITORY / "train.py"), "fit", "--trainer.accelerator=cpu", "--trainer.devices=2"]
    command += ["--trainer.strategy=ddp", "--trainer.max_steps=2", "--trainer.val_check_interval=1"]
    command += ["--data.meta_batch_size=2", "--data.evaluation.n_val_tasks=2", "--data.evaluation.n_test_tasks=2"]
    environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    settings = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 200}
    ended = subprocess.run(command, **settings)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("test accuracy") == 1
    assert [path.name for path in (tmp_path / "runs" / "maml_glyphs_5w1s").iterdir()] == ["0"]
    ended = subprocess.run([*command, "--data.n_way=5000"], **settings)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1, ended.stderr
