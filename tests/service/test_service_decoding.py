"""Where uploads are decoded: the smallest at once, all others in threads, with the same refusals."""

import io
import threading

import numpy as np
import pytest
from anyio import CapacityLimiter
from fastapi import UploadFile
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.data import DecodeLimits, ImageError, Preprocessing, decode_image
from service import decoding
from service.decoding import Decoder

INPUT = Preprocessing(channels=3, height=8, width=8)
_LIMITS = DecodeLimits()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Those in which anything was decoded, in order."""
    used: list[int] = []

    def noting(*arguments: object, **options: object) -> object:
        used.append(threading.get_ident())
        return decode_image(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "decode_image", noting)
    return used


async def decoded(pixels: NDArray[np.uint8], limits: DecodeLimits = _LIMITS, *, alone: bool = True) -> tuple[int, int]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    upload = UploadFile(io.BytesIO(file.getvalue()), size=file.tell(), filename="a.png")
    image = await Decoder(limits, CapacityLimiter(2)).decode(upload, "a.png", INPUT, strict=False, alone=alone)
    return image.original_size


async def test_a_small_image_is_decoded_at_once(threads: list[int]) -> None:
    assert await decoded(np.zeros((32, 16, 3), np.uint8)) == (16, 32)
    assert threads == [threading.get_ident()]


async def test_a_small_image_among_others_is_decoded_elsewhere(threads: list[int]) -> None:
    assert await decoded(np.zeros((32, 16, 3), np.uint8), alone=False) == (16, 32)
    assert threading.get_ident() not in threads


async def test_a_few_bytes_of_many_pixels_are_decoded_elsewhere(threads: list[int]) -> None:
    assert await decoded(np.zeros((200, 300, 3), np.uint8)) == (300, 200)
    assert threads[-1] != threading.get_ident()


async def test_many_bytes_are_decoded_elsewhere(threads: list[int]) -> None:
    noise = np.random.default_rng(0).integers(256, size=(100, 100, 3), dtype=np.uint8)
    assert await decoded(noise) == (100, 100)
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("side", [40, 300])
async def test_the_deployments_own_limits_hold(side: int) -> None:
    with pytest.raises(ImageError, match="900") as refused:
        await decoded(np.zeros((side, side, 3), np.uint8), DecodeLimits(max_pixels=900))
    assert refused.value.reason == "too-many-pixels"
