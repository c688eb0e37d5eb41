"""What all tests share."""

from collections.abc import Iterator

import pytest
import torch

from tests.rank_group import RankGroup


def pytest_configure(config: pytest.Config) -> None:
    """Leaves out what Lightning says of settings that are meant: no loader's workers, no logger, and so on."""
    config.addinivalue_line("filterwarnings", "ignore:::pytorch_lightning")
    config.addinivalue_line("filterwarnings", "ignore:.*LeafSpec")
    config.addinivalue_line("filterwarnings", "ignore:The `srun` command is available")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are computed faster by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def rank_pair() -> Iterator[RankGroup]:
    """Two gloo processes, started when first used."""
    pair = RankGroup(2)
    yield pair
    pair.stop()


@pytest.fixture(scope="session")
def rank_quartet() -> Iterator[RankGroup]:
    """Four gloo processes, started when first used."""
    quartet = RankGroup(4)
    yield quartet
    quartet.stop()
