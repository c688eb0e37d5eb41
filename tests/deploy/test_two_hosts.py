"""Two hosts train as one, and go on after their link was cut: by themselves, or from the last checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.comparison import differences
from tests.deploy.small_job import SMALL_JOB
from tests.deploy.two_hosts import TwoHosts, possible

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not possible(), reason="needs root and `ip netns` for two hosts on one machine"),
]
LOST_AFTER = 15  # seconds without an answer after which a machine counts as lost, in place of five minutes


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    """Starts two hosts in a folder."""
    started: list[TwoHosts] = []

    def start_hosts(folder: Path) -> TwoHosts:
        folder.mkdir()
        timeout = f"--trainer.strategy.init_args.timeout=0:00:{LOST_AFTER}"
        two = ["--config=configs/multi_node.yaml", "--trainer.num_nodes=2"]
        arguments = ["fit", *SMALL_JOB, *two, timeout, "--resume=auto", f"--trainer.default_root_dir={folder / 'runs'}"]
        started.append(TwoHosts(folder, arguments))
        return started[-1]

    yield start_hosts
    for hosts in started:
        hosts.remove()


def run_in(folder: Path) -> Path:
    return folder / "runs" / "maml_glyphs_5w1s" / "0"


def test_the_link_is_cut_and_mended(start, tmp_path):
    whole = start(tmp_path / "whole")
    whole.wait_for(whole.ended, 300)
    whole.remove()

    hosts = start(tmp_path / "short")
    hosts.wait_for(lambda: "step 50/150" in hosts.said(), 120)
    hosts.link("down")
    with pytest.raises(TimeoutError):
        hosts.wait_for(lambda: "step 100/150" in hosts.said(), LOST_AFTER / 3)
    hosts.link("up")
    hosts.wait_for(hosts.ended, 300)
    hosts.remove()
    assert "Resuming" not in hosts.said()  # shorter than the timeout: the packets are sent again
    assert differences(run_in(tmp_path / "short"), run_in(tmp_path / "whole")) == []

    hosts = start(tmp_path / "long")
    hosts.wait_for(lambda: "step 50/150" in hosts.said(), 120)
    hosts.link("down")
    hosts.wait_for(lambda: "Timed out" in hosts.said() or "timed out" in hosts.said().lower(), 4 * LOST_AFTER)
    hosts.link("up")
    seconds = hosts.wait_for(lambda: "step 75/150" in hosts.said(), 300)
    print(f"{seconds:.0f} s from the mended link to the next validation")
    hosts.wait_for(hosts.ended, 300)
    assert "Resuming" in hosts.said()
    assert differences(run_in(tmp_path / "long"), run_in(tmp_path / "whole")) == []
