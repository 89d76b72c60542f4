"""Requests that nobody honest sends, or hardly anybody, each with the answer that is documented for it."""

import gzip
import io
import json
import pickle
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from service_doubles import upload

from hostile_images import encode, gif_bomb, photo, png_bomb, png_chunk, texture, webp_bomb  # isort: skip

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GOOD = encode(photo(8, 8))
HUGE = 2**31 - 1


@dataclass(frozen=True)
class Case:
    """One request, and what becomes of it.

    Attributes:
        name: Of the case.
        status: Of the answer.
        type: Of the problem, or None for an answer that is none.
        reason: Of a refused image.
        request: What `httpx.AsyncClient.request` takes besides method and address.
        method: Of the request.
        url: Its address.
    """

    name: str
    status: int
    type: str | None = None
    reason: str | None = None
    request: dict[str, Any] = field(default_factory=dict)
    method: str = "POST"
    url: str = "/score"


# Images


def spliced(*chunks: tuple[bytes, bytes]) -> bytes:
    """The good PNG, with chunks put in after its header."""
    at = len(SIGNATURE) + 25
    return GOOD[:at] + b"".join(png_chunk(kind, body) for kind, body in chunks) + GOOD[at:]


def jpeg_with(marker: bytes, body: bytes) -> bytes:
    """A JPEG with a segment put in after its first marker."""
    plain = encode(photo(8, 8), "JPEG")
    return plain[:2] + marker + struct.pack(">H", len(body) + 2) + body + plain[2:]


def tiff_of(*tags: tuple[int, int, int], following: int = 0) -> bytes:
    """A TIFF of a directory alone: (tag, kind, value)."""
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(tags))
    return b"II*\x00" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def tiff_size(width: int, height: int, **more: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, more.get("compression", 1)), (262, 3, 1)]
    return tiff_of(*tags, (273, 4, more.get("offset", 8)), (277, 3, 1), (278, 4, height), (279, 4, 64))


def film(file_format: str) -> bytes:
    other = Image.fromarray(texture(8, 8)[::-1].copy())
    return encode(photo(8, 8), file_format, save_all=True, append_images=[other])


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.png", GOOD)
    return buffer.getvalue()


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, texture(8, 8))
    return buffer.getvalue()


def bmp_size(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 70, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def jpeg_size(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"


IFD_LOOP = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 8)
MANY_TAGS = b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + struct.pack("<H", 5000) + bytes(60_000)
TEXT_BOMB = b"comment\x00\x00" + zlib.compress(bytes(2**24), 9)
PROFILE_BOMB = b"profile\x00\x00" + zlib.compress(bytes(2**24), 9)
NO_ROWS = struct.pack(">IIBBBBB", 0, 8, 8, 2, 0, 0, 0)
FLOATS = encode(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
INKS = encode(photo(8, 8).convert("CMYK"), "JPEG")
DEEP = encode(Image.fromarray(texture(8, 8, 1).astype(np.uint16) * 257))
CLEAR = encode(Image.merge("RGBA", (*photo(8, 8).split(), Image.new("L", (8, 8), 0))))

# Name, content, status, reason (None where it is an image like any other).
_IMAGES: list[tuple[str, bytes, int, str | None]] = [
    ("empty", b"", 422, "empty"),
    ("one-byte", b"\x89", 422, "not-an-image"),
    ("png-signature-alone", SIGNATURE, 422, "corrupt"),
    ("png-truncated", encode(photo(24, 36))[:-500], 422, "truncated"),
    ("png-without-data", GOOD[:33] + png_chunk(b"IEND", b""), 422, "corrupt"),
    ("png-wrong-checksum", GOOD[:29] + b"\x00\x00\x00\x00" + GOOD[33:], 422, "corrupt"),
    ("png-no-columns", SIGNATURE + png_chunk(b"IHDR", NO_ROWS) + GOOD[33:], 422, "corrupt"),
    ("png-pixel-bomb", png_bomb(30_000, 30_000), 422, "too-many-pixels"),
    ("png-largest-size", png_bomb(HUGE, HUGE), 422, "too-many-pixels"),
    ("png-text-bomb", spliced((b"zTXt", TEXT_BOMB)), 422, "corrupt"),
    ("png-many-texts", spliced(*[(b"tEXt", b"a\x00" + bytes(2000))] * 20), 200, None),
    ("png-profile-bomb", spliced((b"iCCP", PROFILE_BOMB)), 422, "corrupt"),
    ("png-profile-garbage", spliced((b"iCCP", b"profile\x00\x00garbage")), 200, None),
    ("png-exif-loop", spliced((b"eXIf", IFD_LOOP[6:])), 200, None),
    ("png-polyglot-zip", GOOD + zipped(), 200, None),
    ("png-polyglot-script", spliced((b"tEXt", b"a\x00<script>alert(1)</script>")), 200, None),
    ("png-film", film("PNG"), 422, "animated"),
    ("png-deep", DEEP, 200, None),
    ("png-transparent", CLEAR, 200, None),
    ("jpeg-truncated", encode(photo(24, 36), "JPEG")[:-500], 422, "truncated"),
    ("jpeg-without-tables", jpeg_size(8, 8) + bytes(16) + b"\xff\xd9", 422, "corrupt"),
    ("jpeg-pixel-bomb", jpeg_size(65_500, 65_500), 422, "too-many-pixels"),
    ("jpeg-no-columns", jpeg_size(0, 8), 422, "corrupt"),
    ("jpeg-inks", INKS, 200, None),
    ("jpeg-exif-loop", jpeg_with(b"\xff\xe1", IFD_LOOP), 200, None),
    ("jpeg-exif-bomb", jpeg_with(b"\xff\xe1", MANY_TAGS), 200, None),
    ("jpeg-profile-garbage", jpeg_with(b"\xff\xe2", b"ICC_PROFILE\x00\x01\x01" + bytes(100)), 200, None),
    ("gif-pixel-bomb", gif_bomb(60_000, 60_000), 422, "too-many-pixels"),
    ("gif-no-frame", b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b";", 422, "truncated"),
    ("gif-no-columns", gif_bomb(0, 0), 422, "corrupt"),
    ("gif-film", film("GIF"), 422, "animated"),
    ("webp-pixel-bomb", webp_bomb(16_000, 16_000), 422, "too-many-pixels"),
    ("webp-header-alone", b"RIFF\x10\x00\x00\x00WEBPVP8 ", 422, "corrupt"),
    ("webp-truncated", encode(photo(24, 36), "WEBP", lossless=True)[:-500], 422, "corrupt"),
    ("webp-film", film("WEBP"), 422, "animated"),
    ("tiff-pixel-bomb", tiff_size(HUGE, HUGE), 422, "too-many-pixels"),
    ("tiff-no-columns", tiff_size(0, 8), 422, "corrupt"),
    ("tiff-strip-beyond-the-end", tiff_size(8, 8, offset=HUGE), 422, "truncated"),
    ("tiff-unknown-compression", tiff_size(8, 8, compression=4242), 422, "corrupt"),
    ("tiff-directory-loop", tiff_of((256, 4, 8), following=8), 422, "corrupt"),
    ("tiff-pages", film("TIFF"), 422, "animated"),
    ("tiff-not-a-number", FLOATS, 422, "unsupported-mode"),
    ("bmp-pixel-bomb", bmp_size(30_000, 30_000), 422, "too-many-pixels"),
    ("bmp-negative-size", bmp_size(-8, 8), 422, "too-many-pixels"),
    (
        "svg",
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        415,
        "unsupported-format",
    ),
    (
        "svg-entities",
        b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><svg>&b;</svg>',
        422,
        "not-an-image",
    ),
    ("pdf", b"%PDF-1.7\n1 0 obj\n", 415, "unsupported-format"),
    ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(/etc/passwd) run\n", 415, "unsupported-format"),
    ("avif", b"\x00\x00\x00\x1cftypavif" + bytes(16), 415, "unsupported-format"),
    ("zip", zipped(), 422, "not-an-image"),
    ("gzip", gzip.compress(GOOD), 422, "not-an-image"),
    ("pickle", pickle.dumps({"image": [1, 2, 3]}), 422, "not-an-image"),
    ("numpy", array(), 422, "not-an-image"),
    ("html", b"<!doctype html><script>alert(1)</script>", 422, "not-an-image"),
    ("zeros", bytes(5000), 422, "not-an-image"),
    ("too-many-bytes", GOOD + bytes(100_000), 413, "too-many-bytes"),
]
IMAGES = [
    Case(
        name,
        status,
        None if reason is None else "image-refused",
        reason,
        {"files": upload((name, content))},
    )
    for name, content, status, reason in _IMAGES
]


# Names of files


def named(disposition: bytes, content: bytes = GOOD) -> dict[str, Any]:
    """A form of one part with this `Content-Disposition`."""
    return form(b"Content-Disposition: form-data; " + disposition + b"\r\n\r\n" + content)


def form(
    *parts: bytes, end: bytes = b"--b--\r\n", media_type: str | bytes = "multipart/form-data; boundary=b"
) -> dict[str, Any]:
    """A body of whole parts, heads and all."""
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end
    return {"content": body, "headers": {"Content-Type": media_type}}


def part(name: bytes = b"files", content: bytes = GOOD) -> bytes:
    return b'Content-Disposition: form-data; name="' + name + b'"; filename="a.png"\r\n\r\n' + content


_NAMES: list[tuple[str, bytes, str]] = [
    ("path", b"../../../etc/passwd", "../../../etc/passwd"),
    ("windows-path", rb"C:\\Windows\\win.ini", "win.ini"),
    ("nul", b"a\x00.png", "a\x00.png"),
    ("right-to-left", "\u202egnp.exe".encode(), "\u202egnp.exe"),
    ("not-utf-8", b"\xff\xfe.png", "\xff\xfe.png"),
    ("escape-sequence", b"\x1b[2J.png", "\x1b[2J.png"),
    ("markup", b"<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    ("long", b"n" * 3000, "n" * 3000),
]
NAMES = [(name, named(b'name="files"; filename="' + sent + b'"'), source) for name, sent, source in _NAMES]


# Forms, queries, headers and routes


def sent(name: str, status: int, type_: str | None, request: dict[str, Any], **more: Any) -> Case:
    return Case(name, status, type_, request=request, **more)


def good(**headers: str) -> dict[str, Any]:
    return {"files": upload(("a.png", GOOD)), "headers": headers}


MISFIT = "invalid-request"
FORMS = [
    sent("nothing", 422, MISFIT, {}),
    sent("json", 422, MISFIT, {"json": {"files": ["a"]}}),
    sent("json-of-not-a-number", 422, MISFIT, {"content": b"[NaN]", "headers": {"Content-Type": "application/json"}}),
    sent("urlencoded", 422, MISFIT, {"data": {"files": "a"}}),
    sent("image-without-form", 422, MISFIT, {"content": GOOD, "headers": {"Content-Type": "image/png"}}),
    sent("text-in-place-of-a-file", 422, MISFIT, form(b'Content-Disposition: form-data; name="files"\r\n\r\nabc')),
    sent("another-field", 422, MISFIT, form(part(b"file"))),
    sent("boundary-missing", 400, None, form(part(), media_type="multipart/form-data")),
    sent("boundary-empty", 400, None, form(part(), media_type="multipart/form-data; boundary=")),
    sent("boundary-another", 400, None, form(part(), media_type="multipart/form-data; boundary=c")),
    sent("boundary-huge", 400, None, form(part(), media_type="multipart/form-data; boundary=" + "b" * 5000)),
    sent("boundary-not-ascii", 400, None, form(part(), media_type=b"multipart/form-data; boundary=\xff")),
    sent("form-cut-off", 422, MISFIT, form(part(), end=b"")),
    sent("form-garbage", 400, None, {**form(), "content": b"\x00garbage"}),
    sent("part-without-name", 400, None, form(b"Content-Disposition: form-data\r\n\r\nabc")),
    sent("part-without-head", 400, None, form(b"\r\nabc")),
    sent("part-with-a-huge-head", 400, None, form(b"X: " + b"a" * 100_000 + b"\r\n\r\nabc")),
    sent("part-with-many-heads", 400, None, form(b"X: a\r\n" * 5000 + b"\r\nabc")),
    sent("ten-thousand-files", 400, None, form(*[part(content=b"")] * 10_000)),
    sent("ten-thousand-fields", 400, None, form(*[b'Content-Disposition: form-data; name="a"\r\n\r\n1'] * 10_000)),
    sent("one-file-too-many", 413, "too-many-images", form(*[part()] * 5)),
    sent("huge-field", 400, None, form(b'Content-Disposition: form-data; name="a"\r\n\r\n' + b"a" * 1_500_000)),
    sent("unknown-charset", 200, None, form(part(), media_type="multipart/form-data; boundary=b; charset=klingon")),
    sent("duplicate-fields", 200, None, form(part(), part(), part(b"strict", b"x"))),
    sent(
        "gzip-encoding",
        400,
        None,
        {
            "content": gzip.compress(form(part())["content"]),
            "headers": {**form()["headers"], "Content-Encoding": "gzip"},
        },
    ),
    sent("larger-than-the-limit", 413, "request-too-large", {**form(), "content": bytes(3_000_000)}),
    sent(
        "says-it-is-larger",
        413,
        "request-too-large",
        {**form(), "headers": {**form()["headers"], "Content-Length": "9" * 5000}},
    ),
    sent("query-not-boolean", 422, MISFIT, good(), url="/score?strict=perhaps"),
    sent("query-empty", 422, MISFIT, good(), url="/score?strict="),
    sent("query-nul", 422, MISFIT, good(), url="/score?fidelity=fast%00"),
    sent("query-not-utf-8", 422, MISFIT, good(), url="/score?fidelity=%ff%fe"),
    sent("query-huge", 422, MISFIT, good(), url="/score?fidelity=" + "a" * 5000),
    sent("query-unknown", 200, None, good(), url="/score?path=/etc/passwd"),
    sent("timeout-negative", 422, MISFIT, good(**{"X-Request-Timeout-Ms": "-1"})),
    sent("timeout-not-a-number", 422, MISFIT, good(**{"X-Request-Timeout-Ms": "NaN"})),
    sent("timeout-infinite", 422, MISFIT, good(**{"X-Request-Timeout-Ms": "Infinity"})),
    sent("timeout-fraction", 422, MISFIT, good(**{"X-Request-Timeout-Ms": "1.5"})),
    sent("timeout-of-many-digits", 422, MISFIT, good(**{"X-Request-Timeout-Ms": "9" * 5000})),
    sent("timeout-of-ages", 200, None, good(**{"X-Request-Timeout-Ms": "9" * 30})),
    sent("request-id-of-two-lines", 200, None, good(**{"X-Request-ID": "a b\tc" * 1000})),
    sent("method-get", 405, None, {}, method="GET"),
    sent("method-put", 405, None, good(), method="PUT"),
    sent("method-trace", 405, None, {}, method="TRACE"),
    sent("method-of-webdav", 405, None, {}, method="PROPFIND"),
    sent("path-unknown", 404, None, good(), url="/scores"),
    sent("path-slash", 404, None, good(), url="/score/"),
    sent("path-slashes", 404, None, good(), url="//score"),
    sent("path-upwards", 404, None, {}, method="GET", url="/docs/%2e%2e/%2e%2e/etc/passwd"),
    sent("path-nul", 404, None, {}, method="GET", url="/docs/%00"),
    sent("path-not-utf-8", 404, None, {}, method="GET", url="/docs/%ff"),
    sent("path-long", 404, None, {}, method="GET", url="/docs/" + "a" * 5000),
]


# Bytes that the server itself has to judge, with the status and the problem's type


_HEAD = b"POST /score HTTP/1.1\r\nHost: s\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=b\r\n"
_FORM: bytes = form(part())["content"]
NOT_HTTP = "not-http"
RAW: list[tuple[str, bytes, int, str | None]] = [
    ("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400, NOT_HTTP),
    ("garbage", bytes(range(256)) + b"\r\n\r\n", 400, NOT_HTTP),
    ("http-2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, NOT_HTTP),
    ("http-3.7", b"GET /healthz HTTP/3.7\r\nHost: s\r\n\r\n", 400, NOT_HTTP),
    ("http-0.9", b"GET /score\r\n\r\n", 400, NOT_HTTP),
    ("method-unknown", b"BREW /score HTTP/1.1\r\nHost: s\r\n\r\n", 400, NOT_HTTP),
    ("no-host", b"GET /healthz HTTP/1.1\r\n\r\n", 400, NOT_HTTP),
    ("two-hosts", b"GET /healthz HTTP/1.1\r\nHost: s\r\nHost: t\r\n\r\n", 400, NOT_HTTP),
    ("no-path", b"GET http://s HTTP/1.1\r\nHost: s\r\n\r\n", 400, NOT_HTTP),
    ("path-huge", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: s\r\n\r\n", 400, NOT_HTTP),
    ("path-not-ascii", b"GET /\xff HTTP/1.1\r\nHost: s\r\n\r\n", 400, NOT_HTTP),
    ("header-with-nul", b"GET /healthz HTTP/1.1\r\nHost: s\r\nX: a\x00b\r\n\r\n", 400, NOT_HTTP),
    ("header-folded", b"GET /healthz HTTP/1.1\r\nHost: s\r\nX: a\r\n b\r\n\r\n", 400, NOT_HTTP),
    ("lines-bare", b"GET /healthz HTTP/1.1\nHost: s\n\n", 400, NOT_HTTP),
    ("header-without-colon", b"GET /healthz HTTP/1.1\r\nHost: s\r\nX\r\n\r\n", 400, NOT_HTTP),
    ("header-huge", b"GET /healthz HTTP/1.1\r\nHost: s\r\nX: " + b"a" * 200_000, 400, NOT_HTTP),
    ("headers-many", b"GET /healthz HTTP/1.1\r\nHost: s\r\n" + b"X: a\r\n" * 15_000 + b"\r\n", 400, NOT_HTTP),
    ("headers-endless", b"GET /healthz HTTP/1.1\r\nHost: s\r\n" + b"X: a\r\n" * 30_000, 400, NOT_HTTP),
    ("length-negative", _HEAD + b"Content-Length: -1\r\n\r\n", 400, NOT_HTTP),
    ("length-a-word", _HEAD + b"Content-Length: many\r\n\r\n", 400, NOT_HTTP),
    ("lengths-differ", _HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, NOT_HTTP),
    ("length-too-short", _HEAD + b"Content-Length: 60\r\n\r\n" + _FORM, 422, MISFIT),
    ("length-over-the-limit", _HEAD + b"Content-Length: 9999999999\r\n\r\n", 413, "request-too-large"),
    ("chunk-garbage", _HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n", 400, NOT_HTTP),
    ("chunk-size-endless", _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 100 + b"\r\n", 400, NOT_HTTP),
    ("chunk-name-endless", _HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"a" * 200_000, 400, NOT_HTTP),
    ("trailer-endless", _HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * 200_000, 400, NOT_HTTP),
    ("trailers-endless", _HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 30_000, 400, NOT_HTTP),
    ("length-and-chunks", _HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", 400, NOT_HTTP),
    ("encoding-empty", _HEAD + b"Transfer-Encoding:\r\nContent-Length: 1\r\n\r\na", 400, NOT_HTTP),
    ("encoding-unknown", _HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400, NOT_HTTP),
    ("connect", b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\nConnection: close\r\n\r\n", 400, NOT_HTTP),
]
ALL = [*IMAGES, *FORMS]


def pretty(case: Case) -> str:
    return case.name


def problem_of(document: bytes) -> dict[str, Any]:
    problem: dict[str, Any] = json.loads(document)
    return problem
