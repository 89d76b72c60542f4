"""Memory that runs out, on the device that every machine has."""

import pytest
import torch

from pcdm_core.scoring.memory import memory_errors


def test_what_does_not_fit_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="allocate"), memory_errors():
        torch.empty(2**55, dtype=torch.uint8)


def test_what_onednn_says_for_the_lack_of_memory_is_a_memory_error() -> None:
    with pytest.raises(MemoryError, match="primitive"), memory_errors():
        raise RuntimeError("could not create a primitive")


def test_all_else_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="size"), memory_errors():
        torch.zeros(2) + torch.zeros(3)
