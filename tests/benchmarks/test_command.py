"""What the benchmarks' command says of bad input."""

from pathlib import Path

import pytest

from benchmarks import measurements_file
from benchmarks.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["outerstep"], 2, "no section outerstep: choose from outer_step"),
        (["episodes", "--budget", "-3"], 2, "--budget must be positive, got -3"),
        (["episodes", "--data", "nowhere"], "error: Omniglot is not in ", ""),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str],
    code: int | str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measurements_file, "RESULTS", tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert str(ended.value).startswith(str(code))
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
