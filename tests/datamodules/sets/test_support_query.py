"""A user's own task: what is read from its folders, in which batches it comes, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import Evaluation, Glyphs, SupportQuery
from datamodules.images.contents import image_digests
from datamodules.images.input_spec import InputSpec
from datamodules.sets.support_query import UNKNOWN
from modules import MAML, MLP, Conv4, ProtoNet
from tests.datamodules.image_makers import picture, save_classes
from tests.plain_trainer import plain_trainer

SPEC = InputSpec((3, 12, 12)).as_dict()


def task(root: Path, **arguments) -> SupportQuery:
    data = SupportQuery(support=str(root / "support"), query=str(root / "query"), **arguments)
    data.adopt(SPEC)
    data.setup("predict")
    return data


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three classes of one, two and four images; eleven queries, in folders of classes or not."""
    save_classes(tmp_path / "support", {"ant": 1, "bee": 2, "cow": 4})
    save_classes(tmp_path / "query", {"bee": 3, "cow/field": 2, "dog": 2, ".": 4}, first=50)
    return tmp_path


def test_support_is_labelled_by_its_folders(folders: Path):
    data = task(folders)
    support = data.support()
    assert data.class_names == ("ant", "bee", "cow")
    assert support.y.tolist() == [[0, 1, 1, 2, 2, 2, 2]]
    expected = torch.stack([torch.from_numpy(picture(i)).permute(2, 0, 1) for i in range(7)]) / 255
    torch.testing.assert_close(support.x[0], expected)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_every_query_comes_once_in_the_order_of_the_files(folders: Path, batch_size: int):
    data = task(folders, batch_size=batch_size)
    seen = []
    for batch in data.predict_dataloader():
        first = int(batch.task_id)
        assert len(batch.query_x[0]) <= batch_size
        for i, image in enumerate(batch.query_x[0]):
            with Image.open(data.files[first + i]) as expected:
                np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))
            seen.append(first + i)
        assert batch.task.y.tolist() == [[0, 1, 1, 2, 2, 2, 2]]
        assert batch.task.classes.tolist() == [[0, 1, 2]]
    assert seen == list(range(11))


def test_the_truth_is_the_nearest_folder_named_like_a_class(folders: Path):
    data = task(folders)
    labels = {str(file.relative_to(folders / "query")): data.label_of(file) for file in data.files}
    assert [labels[f"bee/00{i}.png"] for i in range(3)] == [1, 1, 1]
    assert [labels[f"cow/field/00{i}.png"] for i in range(2)] == [2, 2]
    assert labels["dog/000.png"] == labels["000.png"] == UNKNOWN
    batches = torch.cat([batch.query_y[0] for batch in data.predict_dataloader()])
    assert batches.tolist() == list(labels.values())


def test_one_image_is_a_query_too(folders: Path):
    data = SupportQuery(support=str(folders / "support"), query=str(folders / "query" / "bee" / "000.png"))
    data.adopt(SPEC)
    data.setup("predict")
    assert [len(batch.query_x[0]) for batch in data.predict_dataloader()] == [1]
    assert data.label_of(data.files[0]) == UNKNOWN


def test_ranks_share_the_queries(folders: Path, monkeypatch: pytest.MonkeyPatch):
    starts = []
    for rank in range(2):
        data = task(folders, batch_size=3)
        monkeypatch.setattr(SupportQuery, "_world_size", 2)
        data.trainer = type("Trainer", (), {"global_rank": rank})()
        starts.append([int(batch.task_id) for batch in data.predict_dataloader()])
    assert starts == [[0, 6], [3, 9]]


def test_broken_queries_are_left_out_and_the_others_keep_their_names(folders: Path):
    (folders / "query" / "bee" / "001.png").write_text("not a picture")
    with pytest.raises(ValueError, match=r"1 file cannot be read: .*bee/001\.png"):
        task(folders)
    data = task(folders, strict=False)
    assert len(data.files) == 10
    for batch in data.predict_dataloader():
        for i, image in enumerate(batch.query_x[0]):
            with Image.open(data.files[int(batch.task_id) + i]) as expected:
                np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_broken_support_images_are_left_out_everywhere(folders: Path):
    (folders / "support" / "cow" / "000.png").write_text("not a picture")
    data = task(folders, strict=False)
    assert data.class_sizes == (1, 2, 3)
    assert [path.name for path in data.support_files["cow"]] == ["001.png", "002.png", "003.png"]


def test_queries_that_are_support_images_are_named_whatever_they_are_called(folders: Path, capsys):
    for name in ("ant/000.png", "cow/003.png"):
        shutil.copy(folders / "support" / name, folders / "query" / f"photo-{Path(name).stem}.png")
    Image.open(folders / "support" / "bee" / "001.png").save(folders / "query" / "other.bmp")
    data = task(folders)
    said = capsys.readouterr().err
    assert "warning: 3 of the 14 query images are support images: " in said
    assert f"{folders}/query/photo-000.png is {folders}/support/ant/000.png" in said
    found = {copy.name: str(original.relative_to(folders / "support")) for copy, original in data.copy_of.items()}
    assert found == {"photo-000.png": "ant/000.png", "photo-003.png": "cow/003.png", "other.bmp": "bee/001.png"}


def test_new_queries_are_no_copies(folders: Path, capsys):
    save_classes(folders / "query", {"bee": 3, "cow/field": 2, "dog": 2, ".": 4}, first=100)
    assert task(folders).copy_of == {}
    assert capsys.readouterr().err.count("\n") == 2  # support and query are read


def test_support_images_that_stand_twice_in_a_class_are_learned_from_once(folders: Path, capsys):
    shutil.copy(folders / "support" / "cow" / "000.png", folders / "support" / "cow" / "again.png")
    shutil.copy(folders / "support" / "cow" / "000.png", folders / "support" / "cow" / "zzz.png")
    data = task(folders)
    place = folders / "support" / "cow"
    named = f"{place}/again.png is {place}/000.png, {place}/zzz.png is {place}/000.png"
    said = f"support: 2 files are left out, whose content stands in the same class before: {named}\n"
    assert said in capsys.readouterr().err
    assert data.class_sizes == (1, 2, 4)
    assert len(data.support_files["cow"]) == 4


def test_a_support_image_of_two_classes_is_refused_naming_both(folders: Path):
    shutil.copy(folders / "support" / "cow" / "000.png", folders / "support" / "ant" / "zzz.png")
    place = folders / "support"
    with pytest.raises(ValueError, match="1 image has two labels") as refused:
        task(folders)
    assert f"{place}/cow/000.png is {place}/ant/zzz.png" in str(refused.value)


def test_images_that_were_trained_on_are_pointed_out_once(folders: Path, capsys):
    save_classes(folders / "query", {"bee": 3, "cow/field": 2, "dog": 2, ".": 4}, first=100)
    data = task(folders)
    capsys.readouterr()
    trained = image_digests(torch.from_numpy(np.stack([picture(n).transpose(2, 0, 1) for n in (1, 102, 103, 500)])))
    data.check_unseen([], ("test",), trained[3:])
    data.check_unseen([], ("test",))
    assert capsys.readouterr().err == ""
    data.check_unseen([], ("test",), trained)
    data.check_unseen([], ("test",), trained)
    said = capsys.readouterr().err
    assert said.startswith(
        "warning: the checkpoint or its backbone was trained on 1 of the 7 support images and 2 of the 11 query images"
    )
    assert said.count("\n") == 1


def one_class(root: Path) -> None:
    save_classes(root / "support", {"ant": 2})


def empty_class(root: Path) -> None:
    save_classes(root / "support", {"ant": 2, "bee": 0})


def no_query(root: Path) -> None:
    save_classes(root / "support", {"ant": 2, "bee": 1})


def empty_query(root: Path) -> None:
    no_query(root)
    (root / "query").mkdir()


def text_for_image(root: Path) -> None:
    no_query(root)
    (root / "support" / "ant" / "000.png").write_text("not a picture")
    save_classes(root / "query", {"x": 1})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "there is no folder .*support"),
        (one_class, "holds one class, 'ant': a classifier needs two"),
        (empty_class, "without an image: 'bee'"),
        (no_query, "there is no folder .*query.*data.query"),
        (empty_query, "query holds no image to classify"),
        (text_for_image, r"ant/000\.png \(no image that can be read\)"),
    ],
)
def test_folders_that_are_no_task_are_refused(tmp_path: Path, make, message: str):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        task(tmp_path)


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_one_task_is_nothing_to_train_on(folders: Path, stage: str):
    with pytest.raises(ValueError, match=f"to {stage} on your own classes, set --data to ImageFolder"):
        SupportQuery(support=str(folders / "support")).setup(stage)


def test_without_a_query_there_is_support_but_nothing_to_predict(folders: Path):
    data = SupportQuery(support=str(folders / "support"))
    data.adopt(SPEC)
    data.setup("predict")
    assert data.support().x.shape == (1, 7, 3, 12, 12)
    with pytest.raises(ValueError, match=r"set data\.query"):
        data.predict_dataloader()


# ---- from Python, without the command line


def trained() -> ProtoNet:
    """A ProtoNet after one step on drawn characters."""
    learner = ProtoNet(Conv4(filters=4, downsample="pool", reduce="flatten", running_stats=True))
    data = Glyphs(n_way=3, meta_batch_size=2, evaluation=Evaluation(n_val_tasks=1, n_test_tasks=1))
    trainer = plain_trainer(max_steps=1)
    trainer.fit(learner, data)
    learner.trainer = trainer
    return learner


def answers(learner: ProtoNet, data: SupportQuery, checkpoint: Path | None = None) -> torch.Tensor:
    batches: Any = plain_trainer().predict(learner, data, ckpt_path=checkpoint)
    return torch.cat([batch["answers"] for batch in batches], dim=1)


def test_it_takes_its_input_from_the_learner_it_is_given_with(folders: Path, tmp_path: Path):
    learner = trained()
    learner.trainer.save_checkpoint(tmp_path / "run.ckpt")
    folder: Any = folders  # a Path where the configuration has text
    data = SupportQuery(folder / "support", folder / "query", batch_size=4)
    expected = answers(learner, data)
    assert expected.shape == (1, 11, 3)
    assert data.input_spec() == Glyphs().input_spec()
    by_path = ProtoNet(Conv4(filters=4, downsample="pool", reduce="flatten", running_stats=True))
    again = SupportQuery(str(folders / "support"), str(folders / "query"))
    torch.testing.assert_close(answers(by_path, again, tmp_path / "run.ckpt"), expected)
    torch.testing.assert_close(answers(by_path, again), expected)


def test_another_learner_reads_the_images_its_own_way(folders: Path):
    data = SupportQuery(str(folders / "support"), str(folders / "query"))
    answers(trained(), data)
    colour = ProtoNet(Conv4(3, 4, image_size=16, downsample="pool", reduce="flatten", running_stats=True))
    answers(colour, data)
    assert data.input_spec()["image_shape"] == [3, 16, 16]  # an untrained learner says no more than the shape


def test_a_learner_that_takes_no_images_is_refused(folders: Path):
    data = SupportQuery(str(folders / "support"), str(folders / "query"))
    with pytest.raises(ValueError, match="does not know what images are turned into"):
        plain_trainer().predict(MAML(3, MLP()), data)
    with pytest.raises(ValueError, match="to test on your own classes"):
        plain_trainer().test(ProtoNet(), data)
