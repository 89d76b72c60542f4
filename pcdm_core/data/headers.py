"""What an encoded image says about itself, read from its first bytes before any decoder runs.

Two formats need more than a signature. A GIF's frames may be larger than the screen it declares, and a WebP decoder
reserves the whole canvas as soon as it is opened: for both, the size has to be known before Pillow is asked.
"""

from contextlib import suppress

__all__ = ["gif_header", "sniff", "webp_size"]

_GIF_EXTENSION, _GIF_FRAME = 0x21, 0x2C

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    # Known, and never decoded: named so that the refusal can say what was sent.
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"%PDF", "PDF"),
    (b"\x00\x00\x01\x00", "ICO"),
    (b"icns", "ICNS"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x00\x0cJXL ", "JPEG-XL"),
    (b"\xff\x0a", "JPEG-XL"),
    (b"qoif", "QOI"),
    (b"DDS ", "DDS"),
    (b"<svg", "SVG"),
)
_ISO_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC"}


def sniff(data: bytes) -> str | None:
    """Name the format by its signature, never by a file's suffix; `None` if it is no image format known here."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _ISO_BRANDS.get(data[8:12])
    return next((image_format for signature, image_format in _SIGNATURES if data.startswith(signature)), None)


def gif_header(data: bytes) -> tuple[tuple[int, int], int] | None:
    """Walk a GIF's blocks up to its second frame.

    Returns:
        The screen `(width, height)`, enlarged to hold the first frame, and the number of frames met (it stops at 2).
        `None` if the file ends, or stops making sense, before its first frame begins.
    """
    width = height = frames = 0
    with suppress(IndexError):  # the file ends early: whether its first frame is whole is for the decoder to find out
        width, height = _u16(data, 6), _u16(data, 8)
        at = 13 + _palette_bytes(data[10])
        while frames < 2:
            if data[at] == _GIF_EXTENSION:  # a label, then sub-blocks
                at = _after_sub_blocks(data, at + 2)
            elif data[at] == _GIF_FRAME:  # a rectangle, its own palette, the code size, then sub-blocks
                if not frames:
                    width = max(width, _u16(data, at + 1) + _u16(data, at + 5))
                    height = max(height, _u16(data, at + 3) + _u16(data, at + 7))
                frames += 1
                at = _after_sub_blocks(data, at + 11 + _palette_bytes(data[at + 9]))
            else:  # the trailer, or junk after a complete frame, which decoders skip
                break
    return ((width, height), frames) if frames else None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Read the canvas `(width, height)` of a WebP file in any of its three flavours; `None` if it is none of them."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        return _u16(body, 6) & 0x3FFF, _u16(body, 8) & 0x3FFF
    return None


def _u16(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8


def _palette_bytes(flags: int) -> int:
    return 3 << (1 + (flags & 7)) if flags & 0x80 else 0


def _after_sub_blocks(data: bytes, at: int) -> int:
    while size := data[at]:
        at += 1 + size
    return at + 1
