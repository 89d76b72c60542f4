"""Where networks run: what was named, or a clear refusal."""

import re

import pytest
import torch

from pcdm_core.model import UnavailableError, device_name, pick_device

without_cuda = pytest.mark.skipif(torch.cuda.device_count() > 0, reason="there is a CUDA device")
with_cuda = pytest.mark.skipif(torch.cuda.device_count() == 0, reason="there is no CUDA device")


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_name_is_known_whether_or_not_the_device_is_there(name: str) -> None:
    assert device_name(name) == name


@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:0 ", "cpu:0", "cuda:\u0661"])
def test_another_name_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{name!r} is no device: expected auto, cpu, cuda or cuda:N")):
        pick_device(name)


def test_the_processor_is_always_there() -> None:
    assert pick_device("cpu") == torch.device("cpu")


@without_cuda
def test_auto_is_the_processor_where_nothing_else_is() -> None:
    assert pick_device("auto") == torch.device("cpu")


@without_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_refused_with_what_is(name: str) -> None:
    with pytest.raises(UnavailableError, match=f"^the device {name} is not there: there is cpu"):
        pick_device(name)


@with_cuda
def test_auto_is_the_first_cuda_device_where_there_is_one() -> None:
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 0)


@with_cuda
def test_a_number_beyond_the_last_is_refused() -> None:
    with pytest.raises(UnavailableError, match="there is cpu, cuda:0"):
        pick_device(f"cuda:{torch.cuda.device_count()}")
