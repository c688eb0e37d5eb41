"""What a learner's weights were trained on goes with them: through files, checkpoints and processes."""

from functools import partial
from typing import Any

import pytest
import torch

from datamodules.images.bank import ImageBank
from datamodules.images.contents import image_digests
from datamodules.images.leaks import LeakError
from datamodules.sets.sinusoid import Sinusoid
from datamodules.settings import Evaluation
from modules import MAML, Conv4, ProtoNet
from modules.backbones.trained_images import images_of, images_of_file
from tests.learnable_images import N_CLASSES, LearnableImages, make_data
from tests.training_runs import make_learner, make_trainer

SEEN = "that the checkpoint or its backbone was trained on"


class SplitAnew(LearnableImages):
    """The same images; the classes have other names, and those of training are tested."""

    def build_bank(self) -> ImageBank:
        bank = super().build_bank()
        return ImageBank.from_sizes(bank.images, [f"other{c}" for c in range(N_CLASSES)], bank.class_size.tolist())

    def split_classes(self, bank: ImageBank) -> dict[str, list[int]]:
        return {split: list(range(first, N_CLASSES, 3)) for first, split in enumerate(("test", "train", "val"))}


def split_anew(**changes: Any) -> SplitAnew:
    return SplitAnew(n_way=3, k_shot=2, n_query=2, meta_batch_size=8, evaluation=Evaluation(n_test_tasks=5, **changes))


def test_the_checkpoint_of_a_fit_says_what_was_trained_on(tmp_path):
    learner, data, trainer = make_learner("protonet", 0), make_data(), make_trainer(max_steps=2)
    trainer.fit(learner, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert data.bank is not None
    expected = image_digests(torch.cat([data.bank.images[12 * c : 12 * c + 12] for c in range(0, N_CLASSES, 3)]))
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert torch.equal(images_of(content), expected.unique())
    assert torch.equal(images_of_file(str(tmp_path / "a.ckpt")), expected.unique())


def test_what_was_fitted_is_not_tested_on_its_training_images_in_the_same_process():
    learner = make_learner("protonet", 0)
    make_trainer(max_steps=2).fit(learner, make_data())
    make_trainer().test(learner, make_data(), verbose=False)
    with pytest.raises(LeakError, match=f"test holds 120 images {SEEN}: 12 of 'other0'"):
        make_trainer().test(learner, split_anew(), verbose=False)


@pytest.mark.parametrize("by", ["ckpt_path", "load_from_checkpoint"])
def test_a_checkpoint_is_not_tested_on_its_training_images(tmp_path, by):
    learner, trainer = ProtoNet(backbone=Conv4(1, 4, 8)), make_trainer(max_steps=2)
    trainer.fit(learner, make_data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    file = str(tmp_path / "a.ckpt")
    fresh, path = ProtoNet(backbone=Conv4(1, 4, 8)), file if by == "ckpt_path" else None
    if by == "load_from_checkpoint":
        fresh = ProtoNet.load_from_checkpoint(file, backbone=Conv4(1, 4, 8))
    make_trainer().test(fresh, make_data(), ckpt_path=path, verbose=False)
    with pytest.raises(LeakError, match=f"test holds 120 images {SEEN}"):
        make_trainer().test(fresh, split_anew(), ckpt_path=path, verbose=False)
    data = split_anew(leaks="warn")
    make_trainer().test(fresh, data, ckpt_path=path, verbose=False)
    assert f"test holds 120 images {SEEN}" in data.protocol()["leaks"]


def test_other_weights_bring_other_images(tmp_path):
    """What a learner was trained on before a checkpoint replaced its weights says nothing of them."""
    begun, trainer = make_learner("protonet", 0), make_trainer(max_steps=1)
    trainer.fit(begun, split_anew())
    trainer.save_checkpoint(tmp_path / "other.ckpt")
    learner = make_learner("protonet", 0)
    make_trainer(max_steps=1).fit(learner, make_data())
    make_trainer().test(learner, split_anew(), ckpt_path=str(tmp_path / "other.ckpt"), verbose=False)


@pytest.mark.parametrize("kind", [partial(MAML, 3), ProtoNet])
def test_a_backbone_brings_what_its_file_was_trained_on(tmp_path, kind):
    trainer = make_trainer(max_steps=1)
    trainer.fit(ProtoNet(backbone=Conv4(1, 4, 8)), make_data())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    learner = kind(backbone=Conv4(1, 4, 8, weights=str(tmp_path / "a.ckpt")))
    assert len(learner.trained_images) == 120
    with pytest.raises(LeakError, match=SEEN):
        make_trainer(max_steps=1).fit(learner, split_anew())
    learner = kind(backbone=Conv4(1, 4, 8, weights=str(tmp_path / "a.ckpt")))
    trainer = make_trainer(max_steps=1)
    trainer.fit(learner, split_anew(leaks="warn"))
    trainer.save_checkpoint(tmp_path / "b.ckpt")
    assert len(images_of_file(str(tmp_path / "b.ckpt"))) == 240
    resumed = kind(backbone=Conv4(1, 4, 8))
    trainer = make_trainer(max_steps=2)
    trainer.fit(resumed, split_anew(leaks="warn"), ckpt_path=str(tmp_path / "b.ckpt"))
    assert len(resumed.trained_images) == 240


def test_files_of_others_and_of_earlier_versions_say_nothing(tmp_path):
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "old.ckpt")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"trained_images": torch.zeros(2, 2)}, tmp_path / "odd.ckpt")
    for path in tmp_path.iterdir():
        assert images_of_file(str(path)).tolist() == []


def test_data_without_images_have_none():
    assert Sinusoid().trained_images().tolist() == []
