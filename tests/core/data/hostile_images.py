"""Encoded images made in code: honest ones in every mode, and hostile ones for every refusal."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def texture(height: int = 24, width: int = 36, channels: int = 3) -> NDArray[np.uint8]:
    """Noise: no codec can guess a missing part of it."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


def photo(height: int = 24, width: int = 36) -> Image.Image:
    return Image.fromarray(texture(height, width))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of black pixels whose header promises far more of them than its few bytes suggest."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000), 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def gif_bomb(width: int, height: int) -> bytes:
    """A GIF with a screen of one pixel, and a frame of `width x height` on it."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6)
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x4c\x01\x00;"


def webp_bomb(width: int, height: int) -> bytes:
    """A WebP in the extended format, whose canvas is declared and never filled."""
    body = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = b"WEBPVP8X" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def tiff_of_deep_grey(samples: NDArray[np.uint16], *, bits: int = 16, white_is_zero: bool = False) -> bytes:
    """An uncompressed little-endian TIFF of 16-bit words; `bits` is what it says of them (16 alone is honest)."""
    height, width = samples.shape
    body = samples.astype("<u2").tobytes()
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, len(body)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags)
    return b"II*\x00" + struct.pack("<I", 8 + len(body)) + body + directory + bytes(4)


def pack_12_bits(samples: NDArray[np.uint16]) -> bytes:
    """A TIFF of 12-bit grey, two samples in three bytes (an even width)."""
    height, width = samples.shape
    first, second = samples.reshape(-1, 2).T.astype(np.uint32)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=1).astype(np.uint8).tobytes()
    plain = tiff_of_deep_grey(np.zeros((height, width), dtype=np.uint16), bits=12)
    directory = plain[8 + 2 * height * width :]
    directory = directory.replace(
        struct.pack("<HHII", 279, 4, 1, 2 * height * width), struct.pack("<HHII", 279, 4, 1, len(packed))
    )
    return b"II*\x00" + struct.pack("<I", 8 + len(packed)) + packed + directory
