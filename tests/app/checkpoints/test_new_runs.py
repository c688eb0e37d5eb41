"""`fit --ckpt_path`: a checkpoint's own run goes on, or a new one begins and the old one stays as it is."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

RUNS = Path("runs/maml_glyphs_5w1s")
RUN = RUNS / "0"
LAST = RUN / "checkpoints" / "last.ckpt"


def contents(folder: Path) -> dict[str, str]:
    """Every file of a folder and what is in it."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def state(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


def config(folder: Path) -> dict:
    return yaml.safe_load((folder / "config.yaml").read_text())


def images(folder: Path, seed: int, n_classes: int = 20, size: int = 28) -> Path:
    """A folder of grey images in as many classes."""
    generator = torch.Generator().manual_seed(seed)
    for c in range(n_classes):
        place = folder / f"class{c:02}"
        place.mkdir(parents=True)
        for i in range(4):
            pixels = torch.randint(0, 256, (size, size), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(place / f"{i}.png")
    return folder


OWN = ("--data=ImageFolder", "--data.root=own", "--data.channels=1", "--data.image_size=28", "--data.n_query=1")
SHARES = ("--data.val_fraction=0.3", "--data.test_fraction=0.3")


@pytest.fixture
def trained(fitted, tiny):
    """A finished run, and what is in its folder."""
    fitted(*tiny)
    return contents(RUN)


@pytest.mark.parametrize("place", [RUN, RUN / "checkpoints", LAST])
def test_without_a_configuration_file_the_checkpoints_own_holds(run, tiny, place):
    assert run("fit", *tiny, "--model.inner_lr=0.3", "--trainer.max_steps=2").code == 0
    ended = run("fit", f"--ckpt_path={place}", "--trainer.max_steps=4")
    assert ended.code == 0, ended.err
    assert f"Resuming {RUN} from step 2: trainer.max_steps 2 -> 4." in ended.out
    assert [path.name for path in RUNS.iterdir()] == ["0"]
    assert config(RUN)["model"]["init_args"]["inner_lr"] == 0.3
    assert state(RUN)["global_step"] == 4
    assert run("fit", *tiny, "--model.inner_lr=0.3", "--trainer.default_root_dir=whole").code == 0
    whole = state(Path("whole/maml_glyphs_5w1s/0"))["state_dict"]
    assert all(torch.equal(value, whole[name]) for name, value in state(RUN)["state_dict"].items())


def test_a_checkpoint_that_was_moved_trains_its_own_configuration_in_a_new_run(run, tiny):
    assert run("fit", *tiny, "--model=ProtoNet", "--trainer.max_steps=2").code == 0
    before = contents(Path("runs/protonet_glyphs_5w1s/0"))
    shutil.copy("runs/protonet_glyphs_5w1s/0/checkpoints/last.ckpt", "moved.ckpt")
    ended = run("fit", "--ckpt_path=moved.ckpt", "--trainer.max_steps=4")
    assert ended.code == 0, ended.err
    new = Path("runs/protonet_glyphs_5w1s/1")
    assert f"A new run in {new} resumes from step 2 of moved.ckpt: trainer.max_steps 2 -> 4." in ended.out
    assert config(new)["model"]["class_path"] == "modules.ProtoNet"
    assert state(new)["global_step"] == 4
    assert contents(new.parent / "0") == before
    assert not RUNS.exists()


def test_an_older_checkpoint_of_a_run_begins_a_new_one(run, tiny, trained):
    best = next((RUN / "checkpoints").glob("best*.ckpt"))
    ended = run("fit", f"--ckpt_path={best}")
    assert ended.code == 0, ended.err
    assert f"A new run in {RUNS / '1'} resumes from step 2 of {best}." in ended.out
    assert contents(RUN) == trained
    assert all(torch.equal(v, state(RUN)["state_dict"][n]) for n, v in state(RUNS / "1")["state_dict"].items())


def test_new_learning_rate_and_weight_decay_are_used(run, tiny, trained):
    new = ("--model.outer.lr=1e-12", "--model.outer.weight_decay=0.5", "--trainer.max_steps=6")
    ended = run("fit", *tiny, "--ckpt_path=last", *new)
    assert ended.code == 0, ended.err
    changes = "model.outer.lr 0.001 -> 1e-12, model.outer.weight_decay 0.0 -> 0.5, trainer.max_steps 4 -> 6."
    assert f"A new run in {RUNS / '1'} resumes from step 4 of {LAST}: {changes}" in ended.out
    assert contents(RUN) == trained
    before, after = state(RUN), state(RUNS / "1")
    group = after["optimizer_states"][0]["param_groups"][0]
    assert (group["lr"], group["weight_decay"]) == (1e-12, 0.5)
    for name, value in after["state_dict"].items():
        assert torch.allclose(value, before["state_dict"][name], atol=1e-9)  # so small a step moves nothing
    moments = [s["optimizer_states"][0]["state"][0]["step"] for s in (before, after)]
    assert [int(step) for step in moments] == [4, 6]
    with (RUNS / "1" / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]] == [5, 6]


def test_a_new_schedule_holds_from_the_checkpoints_step_on(run, tiny, trained):
    ended = run("fit", *tiny, "--ckpt_path=last", "--model.outer.schedule=linear", "--trainer.max_steps=8")
    assert ended.code == 0, ended.err
    saved = torch.load(RUNS / "1" / "checkpoints" / "last.ckpt", weights_only=True)["lr_schedulers"][0]
    assert saved["last_epoch"] == 8
    assert saved["_last_lr"] == [0.0]
    assert contents(RUN) == trained


def test_another_optimizer_is_refused(run, tiny, trained):
    ended = run("fit", *tiny, "--ckpt_path=last", "--model.outer.optimizer=sgd", "--trainer.max_steps=6")
    assert ended.code == 2
    assert "model.outer.optimizer adam -> sgd: the checkpoint holds the state of adam" in ended.err
    assert ended.err.count("\n") == 1
    assert contents(RUN) == trained
    assert [path.name for path in RUNS.iterdir()] == ["0"]


def test_a_run_that_is_over_cannot_be_taken_further_without_more_steps(run, tiny, trained):
    ended = run("fit", *tiny, "--ckpt_path=last", "--model.outer.lr=1e-4")
    assert ended.code == 2
    assert "the checkpoint is at step 4, and trainer.max_steps is 4: set --trainer.max_steps higher" in ended.err
    assert contents(RUN) == trained


def test_a_batch_of_another_size_goes_on_after_the_tasks_that_were_drawn(run, tiny, trained, monkeypatch):
    drawn: list[int] = []

    def note(self, trainer, pl_module, outputs, batch, batch_idx):
        drawn.extend(batch.task_id.tolist())

    monkeypatch.setattr("app.runs.throughput.Throughput.on_train_batch_end", note)
    other = ("--data.meta_batch_size=3", "--trainer.max_steps=6")
    assert run("fit", *tiny, "--ckpt_path=last", *other).code == 0
    assert drawn == [8, 9, 10, 11, 12, 13]  # four steps of two tasks had been taken
    drawn.clear()
    assert run("fit", *tiny, f"--ckpt_path={RUNS}/1", *other, "--trainer.max_steps=7").code == 0
    assert drawn == [14, 15, 16]
    assert contents(RUN) == trained


def test_other_data_begin_at_step_0_in_a_run_of_their_own(run, tiny, trained):
    images(Path("own"), 0)
    ended = run("fit", *tiny, *OWN, *SHARES, f"--ckpt_path={RUN}")
    assert ended.code == 0, ended.err
    new = Path("runs/maml_image_folder_5w1s/0")
    assert f"A new run in {new} begins at step 0 with the weights of {LAST}: data Glyphs -> ImageFolder" in ended.out
    assert contents(RUN) == trained
    assert config(new)["ckpt_path"] == str(LAST)
    assert state(new)["global_step"] == 4


def test_a_configuration_of_another_data_set_never_writes_into_the_checkpoints_run(run, tiny, trained):
    images(Path("own"), 0)
    Path("other.yaml").write_text(yaml.safe_dump({**config(RUN), "data": {"class_path": "datamodules.ImageFolder"}}))
    ended = run("fit", "--config=other.yaml", *OWN[1:], *SHARES, "--data.n_way=5", f"--ckpt_path={LAST}")
    assert ended.code == 0, ended.err
    assert contents(RUN) == trained
    assert state(Path("runs/other/0"))["data_identity"] != state(RUN)["data_identity"]


def folder_run(run, tiny, *more: str):
    return run("fit", *tiny, *OWN, *SHARES, "--data.n_way=5", *more)


def test_what_the_data_are_decides_and_not_where_they_lie(run, tiny):
    images(Path("own"), 0)
    images(Path("others"), 1)
    runs = Path("runs/maml_image_folder_5w1s")
    assert folder_run(run, tiny, "--resume=auto").code == 0
    before = contents(runs / "0")
    shutil.move("own", "moved")
    assert (
        "Resuming runs/maml_image_folder_5w1s/0 from step 4"
        in folder_run(run, tiny, "--resume=auto", "--data.root=moved").out
    )
    assert [path.name for path in runs.iterdir()] == ["0"]
    before = contents(runs / "0")
    ended = folder_run(run, tiny, "--resume=auto", "--data.root=others")
    assert ended.code == 0, ended.err
    assert "Going on" not in ended.out
    assert (runs / "1" / "results.json").is_file()
    ended = folder_run(run, tiny, "--ckpt_path=runs/maml_image_folder_5w1s/0", "--data.root=others")
    assert ended.code == 0, ended.err
    changes = "the images or classes of the data, data.root own -> others"
    assert (
        f"A new run in {runs / '2'} begins at step 0 with the weights of {runs}/0/checkpoints/last.ckpt: " in ended.out
    )
    assert changes in ended.out
    assert contents(runs / "0") == before


def test_another_network_takes_the_weights_that_fit(run, tiny, trained):
    ended = run("fit", *tiny, f"--ckpt_path={RUN}", "--data.n_way=3", "--trainer.max_steps=2")
    assert ended.code == 0, ended.err
    assert "data.n_way 5 -> 3" in ended.out
    assert "weights and buffers fit; not network.head.weight, network.head.bias." in ended.out
    assert contents(RUN) == trained


def test_another_method_takes_the_backbone(run, tiny, trained):
    ended = run("fit", *tiny, f"--ckpt_path={RUN}", "--model=ProtoNet", "--trainer.max_steps=2")
    assert ended.code == 0, ended.err
    new = Path("runs/protonet_glyphs_5w1s/0")
    assert f"A new run in {new} begins at step 0 with the weights of {LAST}: model MAML -> ProtoNet" in ended.out
    assert state(new)["hyper_parameters"]["_class_path"] == "modules.ProtoNet"
    assert contents(RUN) == trained


def test_weights_that_do_not_fit_at_all_are_refused(run, tiny, trained):
    ended = run("fit", *tiny, f"--ckpt_path={RUN}", "--model.backbone=ResNet12", "--trainer.max_steps=2")
    assert ended.code == 2
    assert "none of its weights fits this network" in ended.err
    assert contents(RUN) == trained


def test_two_sources_of_weights_are_refused(run, tiny, trained):
    ended = run("fit", *tiny, f"--ckpt_path={RUN}", f"--model.backbone.weights={LAST}", "--trainer.max_steps=6")
    assert ended.code == 2
    assert "both give the network its weights" in ended.err


def test_a_run_that_began_elsewhere_stays_so_when_it_goes_on(run, tiny, trained):
    new = ("--model.inner_lr=0.1", "--trainer.max_steps=6")
    assert run("fit", *tiny, f"--ckpt_path={RUN}", *new).code == 0
    assert run("fit", f"--ckpt_path={RUNS}/1", "--trainer.max_steps=8").code == 0
    assert config(RUNS / "1")["ckpt_path"] == str(LAST)
    ended = run("fit", *tiny, "--model.inner_lr=0.1", "--trainer.max_steps=8", "--resume=auto")
    assert "Going on" not in ended.out
    assert (RUNS / "2").is_dir()


def test_without_a_configuration_file_the_backbone_fits_the_data(run, tiny):
    images(Path("own"), 0, size=20)
    small = [option for option in tiny if "filters" not in option]
    arguments = ("--data=ImageFolder", "--data.root=own", "--data.channels=3", "--data.image_size=20", *SHARES)
    ended = run("fit", *small, "--model=ProtoNet", *arguments, "--data.n_query=1", "--trainer.max_steps=2")
    assert ended.code == 0, ended.err
    folder = Path("runs/protonet_image_folder_5w1s/0")
    backbone = config(folder)["model"]["init_args"]["backbone"]["init_args"]
    assert (backbone["in_channels"], backbone["image_size"]) == (3, 20)
    assert (backbone["downsample"], backbone["reduce"], backbone["running_stats"]) == ("pool", "flatten", True)
    ended = run("test", f"--ckpt_path={folder}", "--data.evaluation.n_test_tasks=4")
    assert ended.code == 0, ended.err
    assert json.loads((folder.parent / "test_0" / "results.json").read_text())["protocol"]["data"] == "ImageFolder"


def test_without_a_configuration_file_sine_waves_get_a_network_of_vectors(run, tiny):
    own = [option for option in tiny if "filters" not in option]
    ended = run("fit", *own, "--data=Sinusoid", "--model.backbone.widths=[8]", "--trainer.max_steps=2")
    assert ended.code == 0, ended.err
    assert config(Path("runs/maml_sinusoid_10s/0"))["model"]["init_args"]["backbone"]["class_path"] == "modules.MLP"


def test_what_a_new_run_sets_of_its_callbacks_is_used(run, tiny):
    """A callback's state of the former run would bring back its patience, and its best score."""
    small = (*tiny, "--model.outer.lr=1e-12", "--trainer.val_check_interval=1")
    assert run("fit", *small, "--trainer.max_steps=3", "--early_stopping.patience=1").code == 0
    assert state(RUN)["global_step"] == 2
    more = ("--trainer.max_steps=6", "--early_stopping.patience=3")
    assert run("fit", *small, *more, "--ckpt_path=last").code == 0
    assert state(RUNS / "1")["global_step"] == 6


def test_what_a_checkpoint_has_learned_cannot_be_set_anew(run, tiny):
    assert run("fit", *tiny, "--model=MetaSGD", "--trainer.max_steps=2").code == 0
    ended = run("fit", *tiny, "--model=MetaSGD", "--ckpt_path=last", "--model.largest_lr=0.2")
    assert ended.code == 2
    assert "model.largest_lr 0.1 -> 0.2: the checkpoint has learned other values in its place" in ended.err


def test_a_new_layout_of_the_computation_is_used(run, tiny, trained):
    new = ("--model.outer.task_chunk=1", "--model.outer.task_strategy=vmap", "--trainer.max_steps=6")
    assert run("fit", *tiny, "--ckpt_path=last", *new).code == 0
    assert (state(RUNS / "1")["task_strategy"], state(RUNS / "1")["task_chunk"]) == ("vmap", 1)
    auto = ("--model.outer.task_chunk=2", "--model.outer.task_strategy=auto")
    back = ("--trainer.max_steps=8", f"--ckpt_path={RUNS}/1", *auto)
    assert run("fit", *tiny, *back).code == 0
    assert (state(RUNS / "2")["task_strategy"], state(RUNS / "2")["task_chunk"]) == ("batched", 2)
