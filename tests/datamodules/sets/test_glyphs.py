"""Glyphs: whole scripts in each split, no lookalikes, halves in different faces, the same distortion always."""

import collections
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.images.bank import ImageBank
from datamodules.images.cache import load_or_build
from datamodules.sets.glyphs import glyphs
from datamodules.sets.glyphs import lookalikes as glyph_lookalikes
from datamodules.sets.glyphs.drawing import CANVAS, FACES, INK_SIZE, distort, draw_face
from datamodules.sets.glyphs.glyphs import Glyphs
from datamodules.sets.glyphs.scripts import BLOCKS, TEST_SCRIPTS, VAL_SCRIPTS, candidates, split_of
from datamodules.settings import Evaluation
from tests.made_once import made_once

A, ALPHA, CYRILLIC_A, BE = 0x41, 0x391, 0x410, 0x411


@pytest.fixture(scope="session")
def bank(tmp_path_factory) -> ImageBank:
    """All glyphs, drawn now and not taken from the user's cache: the drawing is what is tested."""

    def draw(folder: Path) -> ImageBank:
        return load_or_build(folder, "glyphs", "test", glyphs._draw_on_one_thread)

    return draw(made_once(tmp_path_factory, "glyphs", draw))


@pytest.fixture
def datamodule(bank, monkeypatch) -> Glyphs:
    monkeypatch.setattr(Glyphs, "build_bank", lambda self: bank)
    return Glyphs(n_way=5, k_shot=2, n_query=3, evaluation=Evaluation(k_shot=1))


def script(name: str) -> str:
    return name.split("/")[0]


def test_sizes(bank):
    splits = Glyphs().split_classes(bank)
    counts = {split: len(classes) for split, classes in splits.items()}
    assert counts == pytest.approx({"train": 1694, "val": 158, "test": 433}, rel=0.03)  # FreeType decides the last few
    assert bank.images.shape == (20 * len(bank.class_names), 1, 28, 28)
    assert bank.first_half is not None
    assert (bank.class_size == 20).all()
    assert (bank.first_half == 10).all()


def test_no_script_is_in_two_splits(bank):
    splits = Glyphs().split_classes(bank)
    scripts = {split: {script(bank.class_names[c]) for c in classes} for split, classes in splits.items()}
    assert sorted(itertools.chain(*splits.values())) == list(range(len(bank.class_names)))
    assert scripts["test"] == set(TEST_SCRIPTS)
    assert scripts["val"] <= set(VAL_SCRIPTS)
    assert not scripts["train"] & (scripts["val"] | scripts["test"])
    assert scripts["train"] >= {"Latin", "Greek", "Cyrillic"}


def test_the_split_scripts_exist():
    scripts = {block[2] for block in BLOCKS}
    assert set(VAL_SCRIPTS) | set(TEST_SCRIPTS) <= scripts
    assert not set(VAL_SCRIPTS) & set(TEST_SCRIPTS)


def test_blocks_do_not_overlap():
    points = sorted((first, last) for first, last, _ in BLOCKS)
    assert all(first <= last for first, last in points)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(points))


def test_candidates_are_named_and_hold_no_marks():
    names = candidates()
    assert names[0x10D0] == "Georgian/U+10D0 GEORGIAN LETTER AN"
    assert split_of(names[0x10D0]) == "test"
    assert split_of(names[A]) == "train"
    assert split_of(names[0x5D0]) == "val"
    for mark_or_blank in (0x0E99 + 0x2F, 0x0EB4, 0x1680, 0x2002, 0x0378, 0x00AD):
        assert mark_or_blank not in names, hex(mark_or_blank)


def test_drawings_are_centred_and_fill_the_canvas():
    drawings = draw_face("DejaVuSans", [A, ord("."), ord("l"), 0x1455])
    assert sorted(drawings) == [ord("."), A, ord("l"), 0x1455]
    for code, drawing in drawings.items():
        rows, columns = np.nonzero(drawing > 64)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert abs(max(height, width) - INK_SIZE) <= 2, chr(code)
        assert abs(rows.min() + rows.max() - (CANVAS - 1)) <= 2, chr(code)
        assert abs(columns.min() + columns.max() - (CANVAS - 1)) <= 2, chr(code)


def test_a_character_that_the_font_lacks_is_not_drawn():
    assert draw_face("DejaVuSans", [0x4E00, ord(" ")]) == {}  # a Chinese character; a blank


def test_all_faces_are_there():
    assert len(FACES) == 12
    assert all(A in draw_face(face, [A]) for face in FACES)


def test_lookalikes_are_one_class_and_different_letters_are_not():
    drawings = draw_face("DejaVuSans", [A, ALPHA, CYRILLIC_A, BE])
    codes = list(drawings)
    rows = glyph_lookalikes.signatures(torch.from_numpy(np.stack(list(drawings.values()))))
    pairs = {frozenset((codes[i], codes[j])) for i, j in glyph_lookalikes.lookalikes(rows, chunk=3)}
    assert pairs == {frozenset(pair) for pair in ((A, ALPHA), (A, CYRILLIC_A), (ALPHA, CYRILLIC_A))}


def test_only_what_looks_like_a_kept_character_is_dropped():
    chain = [(1, 2), (2, 3), (3, 4)]  # 1 and 3 do not look alike
    assert glyph_lookalikes.without_lookalikes([1, 2, 3, 4], chain) == [1, 3]
    assert glyph_lookalikes.without_lookalikes([2, 1, 3, 4], chain) == [2, 4]


def test_known_lookalikes_stay_out_of_the_bank(bank):
    names = " ".join(bank.class_names)
    assert "U+0041 LATIN CAPITAL LETTER A" in names
    assert "U+0391 " not in names
    assert "U+0410 " not in names
    assert "U+0555 " not in names  # Armenian Oh is a Latin O: a test class that training would have seen


def test_the_images_of_no_two_classes_coincide(bank):
    average = bank.images.float().view(len(bank.class_names), -1, 28, 28).mean(1).repeat_interleave(2, 1)
    rows = glyph_lookalikes.signatures(average.repeat_interleave(2, 2).to(torch.uint8))
    distance = glyph_lookalikes.distances(rows, rows).fill_diagonal_(1)
    assert float(distance.min()) > 0.01
    digests = collections.Counter(image.tobytes() for image in bank.images.numpy())
    assert max(digests.values()) == 1


def test_faces_that_draw_alike_count_once():
    regular = torch.rand(50, generator=torch.Generator().manual_seed(0))
    other = regular.flip(0)
    assert glyph_lookalikes.distinct_faces(torch.stack([regular, regular * 1.001, other, regular])) == [0, 2]


def test_the_halves_hold_different_faces():
    faces = [np.full((CANVAS, CANVAS), 50 + 10 * face, np.uint8) for face in range(5)]
    images = glyphs._class_images(A, faces)
    level = images[:, 0, 14, 14].tolist()  # the middle of a plain picture stays what it was
    assert set(level[:10]) == {50, 70, 90}
    assert set(level[10:]) == {60, 80}


def test_the_distortion_is_light_and_always_the_same():
    drawing = torch.from_numpy(draw_face("DejaVuSans", [A])[A])
    number = torch.arange(200)
    images = distort(drawing.expand(200, -1, -1), number)
    assert torch.equal(images[3:5], distort(drawing.expand(2, -1, -1), number[3:5]))  # whatever else is drawn
    assert len({image.numpy().tobytes() for image in images}) == 200
    plain = torch.nn.functional.avg_pool2d(drawing[None, None].float(), 2)
    ink = images.float().sum((1, 2, 3)) / plain.sum()
    assert ((ink > 0.75) & (ink < 1.25)).all()
    assert 0.97 < float(ink.mean()) < 1.03
    edge = images.clone()
    edge[:, :, 1:-1, 1:-1] = 0
    assert float(edge.float().mean()) < 1  # hardly any ink touches the edge
    overlap = torch.cosine_similarity(images.flatten(1).float(), plain.flatten(1))
    assert float(overlap.min()) > 0.4


def test_every_image_has_ink_and_ground(bank):
    ink = bank.images.float().mean((1, 2, 3))
    assert float(ink.min()) > 3
    assert float(ink.max()) < 200
    assert (bank.images.amax((1, 2, 3)) > 100).all()


def test_support_and_query_come_from_different_halves(datamodule, bank):
    datamodule.setup("fit")
    where = {image.tobytes(): i for i, image in enumerate(bank.images.numpy())}
    for split in ("train", "val", "test"):
        episode = datamodule.episode(split, torch.arange(20))
        for support, query in zip(episode.task.x, episode.query_x, strict=True):
            halves = []
            for images in (support, query):
                numbers = [where[image.tobytes()] for image in (images * 255).round().to(torch.uint8).numpy()]
                halves.append({number // 10 for number in numbers})
            assert not halves[0] & halves[1]
            assert {half // 2 for half in halves[0]} == {half // 2 for half in halves[1]}


def test_more_shots_than_a_half_has_are_refused(bank, monkeypatch):
    monkeypatch.setattr(Glyphs, "build_bank", lambda self: bank)
    with pytest.raises(ValueError, match=r"11.*k_shot"):
        Glyphs(k_shot=11).setup("fit")


def test_the_test_scripts_are_neither_trivial_nor_hopeless(datamodule):
    datamodule.setup("test")
    episode = datamodule.episode("test", torch.arange(1000))
    nearest = torch.cdist(episode.query_x.flatten(2), episode.task.x.flatten(2)).argmin(2)  # 1-shot: the class
    accuracy = float((nearest == episode.query_y).float().mean())
    assert 0.6 < accuracy < 0.85  # nearest pixels: well above 0.2, and much left to learn


def test_the_cache_is_made_once_and_known_by_its_parameters(tmp_path, monkeypatch):
    small = ImageBank.from_sizes(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), ["Latin/x"], [2], [1])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    drawn = []

    def draw() -> ImageBank:
        drawn.append(1)
        return small

    monkeypatch.setattr(glyphs, "draw_glyphs", draw)
    for _ in range(2):
        Glyphs(cache=str(tmp_path / "own")).build_bank()
    assert len(drawn) == 1
    monkeypatch.setattr(glyphs, "SHEAR", 0.2)
    Glyphs(cache=str(tmp_path / "own")).build_bank()
    assert len(drawn) == 2
    assert len(os.listdir(tmp_path / "own")) == 2


def test_hyperparameters_make_the_same_data_module(tmp_path):
    made = Glyphs(n_way=7, cache=str(tmp_path))
    again = Glyphs(**{k: v for k, v in made.hparams.items() if not k.startswith("_")})
    assert again.shapes == made.shapes
    assert again.cache == made.cache
    assert made.input_spec()["ink"] == "white on black"
