"""What is drawn for different uses never comes from the same random numbers."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
STREAM = re.compile(r"^(\w+_STREAM) = 1 << (\d+)", re.MULTILINE)


def test_every_stream_of_random_numbers_has_a_number_of_its_own() -> None:
    files = [path for folder in ("modules", "datamodules") for path in (ROOT / folder).rglob("*.py")]
    found = [(name, int(power)) for path in files for name, power in STREAM.findall(path.read_text("utf-8"))]
    assert len(found) >= 9
    assert len({power for _, power in found}) == len(found), sorted(found, key=lambda pair: pair[1])
