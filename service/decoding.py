"""Uploads into what the model takes, without holding the event loop for long."""

import dataclasses
from typing import Final

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import UploadFile

from pcdm_core.data import DecodeLimits, ImageError, PreparedImage, Preprocessing, decode_image

__all__ = ["Decoder"]

# Of an image that is decoded about as soon as a thread hears of it, and within some 20 ms whatever is in it: bytes, and
# pixels by the header.
_AT_ONCE: Final = (8_192, 128 * 128)


class Decoder:
    """Decodes uploads, all but a small one that comes alone in threads.

    Args:
        limits: Of an upload.
        threads: In which they may be decoded at the same time.
    """

    def __init__(self, limits: DecodeLimits, threads: CapacityLimiter) -> None:
        self._limits = limits
        most_bytes, most_pixels = _AT_ONCE
        self._small = dataclasses.replace(
            limits, max_bytes=min(limits.max_bytes, most_bytes), max_pixels=min(limits.max_pixels, most_pixels)
        )
        self._threads = threads

    async def decode(
        self, file: UploadFile, name: str, preprocessing: Preprocessing, *, strict: bool, alone: bool
    ) -> PreparedImage:
        """The model's input.

        Args:
            file: What was uploaded.
            name: What to call it in a refusal.
            preprocessing: The model's.
            strict: Refuse an image that is not of the model's own size.
            alone: It is the only one of its request: many small ones would hold the loop for long together.

        Raises:
            ImageError: It is refused.
        """
        # One more than allowed is enough to be refused; and never more than there is, as so much is allocated at once.
        data = await file.read(min(self._limits.max_bytes, file.size or 0) + 1)
        if alone and len(data) <= self._small.max_bytes:
            try:
                return _prepare(data, name, self._small, preprocessing, strict)
            except ImageError as error:
                if error.reason != "too-many-pixels":
                    raise
        return await anyio.to_thread.run_sync(
            _prepare, data, name, self._limits, preprocessing, strict, limiter=self._threads
        )


def _prepare(data: bytes, name: str, limits: DecodeLimits, preprocessing: Preprocessing, strict: bool) -> PreparedImage:
    return preprocessing.prepare(decode_image(data, name=name, limits=limits), name=name, strict=strict)
