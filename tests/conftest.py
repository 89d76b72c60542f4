"""What every test stands on: the same arithmetic and the same random draws on every machine, and the real data."""

import os
from pathlib import Path

# Sums are split among threads, so their last digits depend on the number of threads: fix it, here and in the servers
# that tests start. At one: networks of the size of these tests gain nothing by a second thread, and threads that wait
# for each other on a machine with other work to do take ten times as long. Before anything reads it.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# The command's console keeps the width that it finds here as it is imported; a test that wants another says so.
os.environ.pop("COLUMNS", None)

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

# Hypothesis' own profile for unattended runs: the same examples every time, and no deadline for one example.
hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Weights and draws that a test leaves to torch's global generator do not depend on the tests run before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real data sets; the test is skipped where there is none."""
    named = os.environ.get("PCDM_DATA_DIR")
    if not named:
        pytest.skip("PCDM_DATA_DIR is not set: no real data sets here")
    folder = Path(named)
    if not folder.is_dir():
        pytest.skip(f"PCDM_DATA_DIR names no folder: {folder}")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest file: where two processes share the tests by files, neither is left with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")
