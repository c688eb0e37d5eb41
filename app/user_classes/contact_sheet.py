"""Contact sheets: for each class its support images, then the images that were taken for it, and those left unsure."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from app.user_classes.answer import Answer
from app.user_classes.likeness import UNLIKE
from datamodules.images.decoding import BrokenImageError, open_upright

TILE, GAP, CAPTION, HEADING, COLUMNS = 112, 8, 16, 30, 10  # pixels; images in a row
MOST_SUPPORT, MOST_ANSWERS = COLUMNS, 5 * COLUMNS  # of each class
PAGE_HEIGHT = 4000
EMPTY = "#f6f8fa"
INK, NEUTRAL, RIGHT, WRONG = "#1f2328", "#8c959f", "#1a7f37", "#cf222e"


class Strip(NamedTuple):
    """One row of a sheet: a heading, or images with their captions."""

    heading: str
    tiles: list[tuple[Path, str, str]]  # file, caption, colour

    @property
    def height(self) -> int:
        """In pixels."""
        return HEADING if self.heading else TILE + CAPTION + GAP


def save_contact_sheets(path: Path, support: Mapping[str, Sequence[Path]], answers: Sequence[Answer]) -> list[Path]:
    """Draws the answers.

    Args:
        path: The PNG file; where one page does not do, those after it are numbered.
        support: For each class its support images.
        answers: What is said of the other images.

    Returns:
        The pages.
    """
    pages: list[list[Strip]] = [[]]
    for strip in _strips(support, answers):
        if pages[-1] and sum(s.height for s in pages[-1]) + strip.height > PAGE_HEIGHT:
            pages.append([])
        pages[-1].append(strip)
    paths = [path.with_stem(f"{path.stem}_{number}") if number > 1 else path for number in range(1, len(pages) + 1)]
    for page, strips in zip(paths, pages, strict=True):
        _draw(strips).save(page)
    return paths


def _strips(support: Mapping[str, Sequence[Path]], answers: Sequence[Answer]) -> Iterator[Strip]:
    for name, files in support.items():
        own = sorted((a for a in answers if a.label == name), key=lambda answer: -max(answer.probabilities))
        counts = f"{_counted(len(files), 'support image')}, {_counted(len(own), 'answer')}"
        yield Strip(f"{name}: {counts}{_cut(len(own))}", [])
        yield Strip("", [(file, "support", NEUTRAL) for file in files[:MOST_SUPPORT]])
        yield from _rows(own)
    unsure = sorted((a for a in answers if a.label not in support), key=lambda answer: -max(answer.probabilities))
    if unsure:
        yield Strip(f"unsure: {len(unsure)}{_cut(len(unsure))}", [])
        yield from _rows(unsure)


def _rows(answers: Sequence[Answer]) -> Iterator[Strip]:
    shown = answers[:MOST_ANSWERS]
    for start in range(0, len(shown), COLUMNS):
        yield Strip("", [_tile(answer) for answer in shown[start : start + COLUMNS]])


def _tile(answer: Answer) -> tuple[Path, str, str]:
    colour = NEUTRAL  # nothing is known, or nothing said
    if answer.counts:
        colour = WRONG if answer.truth != answer.guess else RIGHT if answer.label == answer.guess else NEUTRAL
    said = f"{max(answer.probabilities):.0%} {answer.guess}"
    return answer.file, f"unlike; {said}" if UNLIKE in answer.reason else said, colour


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _cut(count: int) -> str:
    return f", the first {MOST_ANSWERS} shown" if count > MOST_ANSWERS else ""


def _draw(strips: list[Strip]) -> Image.Image:
    width = COLUMNS * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, sum(strip.height for strip in strips) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    large, small = (ImageFont.truetype(_font_file(), size) for size in (15, 10))
    top = 0
    for strip in strips:
        if strip.heading:
            draw.text((GAP, top + HEADING - 6), strip.heading, fill=INK, font=large, anchor="ls")
        for column, (file, caption, colour) in enumerate(strip.tiles):
            left = GAP + column * (TILE + GAP)
            sheet.paste(_thumbnail(file), (left, top + GAP))
            draw.rectangle((left - 2, top + GAP - 2, left + TILE + 1, top + GAP + TILE + 1), outline=colour, width=2)
            draw.text((left, top + GAP + TILE + 3), _fitted(caption, small), fill=colour, font=small)
        top += strip.height
    return sheet


def _thumbnail(file: Path) -> Image.Image:
    """The whole image in a square, on light grey."""
    try:
        image = open_upright(file, 2 * TILE).convert("RGB")
    except BrokenImageError:  # changed since it was read
        return Image.new("RGB", (TILE, TILE), EMPTY)
    return ImageOps.pad(image, (TILE, TILE), color=EMPTY)


def _font_file() -> str:
    """DejaVu Sans, which has the letters of most alphabets, as it comes with matplotlib."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))


def _fitted(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> str:
    if font.getlength(text) <= TILE:
        return text
    while len(text) > 1 and font.getlength(text + "…") > TILE:
        text = text[:-1]
    return text + "…"
