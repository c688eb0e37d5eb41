"""The pages for people: whole, and pointing to what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "RESULTS.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
CONFIG = re.compile(r"`(\w+_(?:omniglot|mini_imagenet|glyphs|sinusoid|image_folder)_\w+)`|configs/(\w+)\.yaml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_that_are_named_are_there(page: Path) -> None:
    named = {name for pair in CONFIG.findall(page.read_text("utf-8")) for name in pair if name.islower()}  # not METHOD
    there = {path.stem for path in (ROOT / "configs").glob("*.yaml")}
    tests_of_others = ("protonet_omniglot_lake", "protonet_omniglot_within_alphabet")  # cells without a configuration
    assert {name for name in named - there if not name.startswith(tests_of_others)} == set()


def test_every_picture_is_shown() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text("utf-8"))}
    assert [path.name for path in (ROOT / "docs").glob("*.png") if path.resolve() not in shown] == []


def test_the_readme_has_what_a_newcomer_looks_for() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    wanted = ["Two commands", "What a run leaves", "Your own images", "Omniglot"]
    assert [head for head in wanted if head not in heads] == []
    commands = ["make train", "make test", "make reproduce", "--resume auto", "--data SupportQuery", "train.py export"]
    assert [command for command in commands if command not in text] == []
