"""Which characters Glyphs holds, by script, and which split each script belongs to."""

import unicodedata

# (first code point, last code point, script). Left out on purpose: what is no character of its own (presentation
# forms, superscripts, fullwidth forms, mathematical alphabets) and what 28x28 pixels cannot tell apart (box drawing,
# hexagrams, tetragrams, playing cards, dominoes).
BLOCKS = (
    (0x0021, 0x02AF, "Latin"),
    (0x1E00, 0x1EFF, "Latin"),
    (0x2C60, 0x2C7F, "Latin"),
    (0xA708, 0xA7FF, "Latin"),
    (0x0370, 0x03FF, "Greek"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x0400, 0x052F, "Cyrillic"),
    (0xA640, 0xA69F, "Cyrillic"),
    (0x1D00, 0x1DBF, "Phonetic"),
    (0x1400, 0x167F, "Canadian_Aboriginal_Syllabics"),
    (0x0600, 0x077F, "Arabic"),
    (0x2010, 0x205E, "Punctuation"),
    (0x2E00, 0x2E5D, "Punctuation"),
    (0x20A0, 0x20CF, "Currency"),
    (0x2100, 0x218F, "Letterlike_Symbols"),
    (0x2200, 0x22FF, "Mathematics"),
    (0x27C0, 0x27EF, "Mathematics"),
    (0x2980, 0x2AFF, "Mathematics"),
    (0x2190, 0x21FF, "Arrows"),
    (0x27F0, 0x27FF, "Arrows"),
    (0x2900, 0x297F, "Arrows"),
    (0x2B00, 0x2B5A, "Arrows"),
    (0x2300, 0x23FF, "Technical_Symbols"),
    (0x25A0, 0x25FF, "Geometric_Shapes"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x2D00, 0x2D2F, "Georgian"),
    (0x0531, 0x058F, "Armenian"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x2801, 0x28FF, "Braille"),
    (0x2600, 0x262F, "Miscellaneous_Symbols"),
    (0x2638, 0x2689, "Miscellaneous_Symbols"),
    (0x2690, 0x26FF, "Miscellaneous_Symbols"),
    (0x05D0, 0x05F4, "Hebrew"),
    (0x07C0, 0x07FF, "NKo"),
    (0x2D30, 0x2D7F, "Tifinagh"),
    (0x1680, 0x169F, "Ogham"),
    (0x16A0, 0x16FF, "Runic"),
    (0x2C80, 0x2CFF, "Coptic"),
    (0xA4D0, 0xA4FF, "Lisu"),
    (0x10300, 0x1032F, "Old_Italic"),
    (0x2701, 0x27BF, "Dingbats"),
)

VAL_SCRIPTS = ("Hebrew", "NKo", "Tifinagh", "Ogham", "Runic", "Coptic", "Lisu", "Old_Italic", "Dingbats")
TEST_SCRIPTS = ("Georgian", "Armenian", "Lao", "Braille", "Miscellaneous_Symbols")


def candidates() -> dict[int, str]:
    """The characters to look for in the fonts.

    Returns:
        Code point -> class name, e.g. 0x10D0 -> "Georgian/U+10D0 GEORGIAN LETTER AN". The order matters: of two
        lookalikes the first is kept, so training scripts come first and a plain letter before its variants.
    """
    found = {}
    for first, last, script in BLOCKS:
        for code in range(first, last + 1):
            name = unicodedata.name(chr(code), "")
            # Blanks, controls and unassigned code points (C, Z) have no ink; marks (M) sit on another character.
            if name and unicodedata.category(chr(code))[0] not in "CZM":
                found[code] = f"{script}/U+{code:04X} {name}"
    return found


def split_of(class_name: str) -> str:
    """The split that a class belongs to by its script: "train", "val" or "test"."""
    script = class_name.split("/")[0]
    return "val" if script in VAL_SCRIPTS else "test" if script in TEST_SCRIPTS else "train"
