"""Bytes to pixels: what every honest image becomes, and why every hostile one is refused."""

import io
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hostile_images import (
    encode,
    gif_bomb,
    pack_12_bits,
    photo,
    png_bomb,
    png_chunk,
    texture,
    tiff_of_deep_grey,
    webp_bomb,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from pcdm_core.data import DecodeLimits, ImageError, decode_image

LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}}
ENCODED = {
    **{name: encode(photo(), name, **options) for name, options in LOSSLESS.items()},
    "TIFF-LZW": encode(photo(), "TIFF", compression="tiff_lzw"),
    "TIFF-JPEG": encode(photo(), "TIFF", compression="jpeg"),
    "JPEG": encode(photo(), "JPEG"),
    "JPEG-PROGRESSIVE": encode(photo(), "JPEG", progressive=True),
    "WEBP-LOSSY": encode(photo(), "WEBP"),
    "GIF": encode(photo().quantize(16), "GIF"),
    "PNG-INTERLACED": encode(photo(), "PNG", interlace=1),
}


def refusal(data: bytes, limits: DecodeLimits | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_image(data, name="upload.png", limits=limits or DecodeLimits())
    assert str(caught.value).startswith("upload.png: ")
    assert caught.value.name == "upload.png"
    return caught.value


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(decode_image(data, name="upload.png"))


# What honest images become


@pytest.mark.parametrize("file_format", LOSSLESS)
def test_lossless_rgb_comes_back_bit_for_bit(file_format: str) -> None:
    assert np.array_equal(pixels(ENCODED[file_format]), texture())


@pytest.mark.parametrize("name", ENCODED)
def test_every_allowed_format_gives_what_pillow_shows(name: str) -> None:
    with Image.open(io.BytesIO(ENCODED[name])) as image:
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(pixels(ENCODED[name]), expected)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_grey_stays_grey(file_format: str) -> None:
    decoded = decode_image(encode(Image.fromarray(texture(channels=1)), file_format), name="grey")
    assert decoded.mode == "L"
    assert np.array_equal(np.asarray(decoded), texture(channels=1))


def test_one_bit_becomes_black_and_white_grey() -> None:
    bits = texture(channels=1) > 127
    decoded = decode_image(encode(Image.fromarray(bits)), name="fax")
    assert decoded.mode == "L"
    assert np.array_equal(np.asarray(decoded), np.where(bits, 255, 0))


def test_one_pixel_is_an_image() -> None:
    assert pixels(encode(Image.new("RGB", (1, 1), (1, 2, 3)))).tolist() == [[[1, 2, 3]]]


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=16))
def test_16_bit_grey_is_scaled_to_the_nearest_8_bit_value(values: list[int]) -> None:
    samples = np.array([values], dtype=np.uint16)
    expected = np.round(samples / 257).astype(np.uint8)
    assert np.array_equal(pixels(encode(Image.fromarray(samples))), expected)
    assert np.array_equal(pixels(tiff_of_deep_grey(samples)), expected)


def test_12_bit_grey_reaches_white() -> None:
    assert pixels(pack_12_bits(np.array([[0, 4095], [2048, 16]], dtype=np.uint16))).tolist() == [[0, 255], [128, 1]]


def test_16_bit_rgb_png_keeps_its_range() -> None:
    row = b"\x00" + b"".join(value.to_bytes(2, "big") for value in (0, 0x8000, 0xFFFF))
    header = b"\x00\x00\x00\x01\x00\x00\x00\x01\x10\x02\x00\x00\x00"
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(row)) + png_chunk(b"IEND", b"")
    assert pixels(b"\x89PNG\r\n\x1a\n" + body).tolist() == [[[0, 128, 255]]]


def test_rgba_is_composited_on_white() -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(10, 20, 30, 255), (10, 20, 30, 0), (0, 0, 0, 128)])
    assert pixels(encode(image)).tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]


def test_transparent_grey_is_composited_on_white_and_stays_grey() -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(10, 255), (10, 0)])
    decoded = decode_image(encode(image), name="la")
    assert decoded.mode == "L"
    assert np.asarray(decoded).tolist() == [[10, 255]]


@pytest.mark.parametrize(("mode", "colour", "white"), [("L", 10, 255), ("RGB", (10, 20, 30), [255, 255, 255])])
def test_a_colour_declared_transparent_becomes_white(mode: str, colour: int, white: object) -> None:
    assert pixels(encode(Image.new(mode, (1, 1), colour), transparency=colour)).tolist() == [[white]]


def test_a_transparent_deep_grey_value_becomes_white() -> None:
    samples = np.array([[0, 257, 514]], dtype=np.uint16)
    assert pixels(encode(Image.fromarray(samples), transparency=257)).tolist() == [[0, 255, 2]]


def test_a_palette_becomes_rgb() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.putdata([0, 1])
    assert pixels(encode(image)).tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize(("file_format", "transparency"), [("PNG", 1), ("PNG", b"\xff\x00"), ("GIF", 1)])
def test_a_transparent_palette_entry_becomes_white(file_format: str, transparency: int | bytes) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.putdata([0, 1])
    decoded = pixels(encode(image, file_format, transparency=transparency))
    assert decoded.tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_cmyk_jpeg_becomes_rgb() -> None:
    image = Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK")
    decoded = pixels(encode(image, "JPEG", quality=95))
    assert decoded.shape == (16, 16, 3)
    assert np.abs(decoded.astype(int) - (200, 40, 90)).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_undone(file_format: str, orientation: int) -> None:
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = photo().transpose(inverse[orientation]) if orientation in inverse else photo()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(stored, file_format, exif=exif, **LOSSLESS[file_format])
    assert np.array_equal(pixels(data), texture())


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's remark, once, on the log
@pytest.mark.parametrize("exif", [b"Exif\x00\x00", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00nonsense"])
def test_damaged_exif_leaves_the_image_as_it_is(exif: bytes) -> None:
    data = encode(photo(), "JPEG")
    assert np.array_equal(pixels(encode(photo(), "JPEG", exif=exif)), pixels(data))


def test_a_multi_picture_jpeg_is_its_first_picture() -> None:
    many = encode(photo(), "MPO", save_all=True, append_images=[photo(8, 8)])
    assert pixels(many).shape == (24, 36, 3)


def test_the_content_decides_the_format_not_the_name() -> None:
    assert decode_image(encode(photo(), "JPEG"), name="really.png").mode == "RGB"


def test_nothing_of_the_file_stays_attached() -> None:
    decoded = decode_image(encode(photo(), "PNG", dpi=(72, 72)), name="a.png")
    assert not isinstance(decoded, ImageFile.ImageFile)
    assert decoded.info == {}


# What is refused


def test_no_bytes_are_refused_as_empty() -> None:
    assert refusal(b"").reason == "empty"


@pytest.mark.parametrize("text", [b"hello, world\n", b"x", b"<html><body>no</body></html>", b"\x00" * 100])
def test_text_named_png_is_not_an_image(text: bytes) -> None:
    error = refusal(text)
    assert error.reason == "not-an-image"
    assert "PNG, JPEG" in str(error)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("name", ["PNG", "JPEG", "BMP"])
def test_a_truncated_file_is_refused_as_truncated(name: str, share: float) -> None:
    data = ENCODED[name]
    assert refusal(data[: int(share * len(data))]).reason == "truncated"


@pytest.mark.parametrize("name", ENCODED)
@settings(max_examples=60)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_refused_or_complete_never_half_grey(name: str, share: float) -> None:
    data = ENCODED[name]
    cut = data[: int(share * len(data))]
    try:
        decoded = pixels(cut)
    except ImageError:
        return
    assert np.array_equal(decoded, pixels(data))


@pytest.mark.parametrize("name", ENCODED)
@settings(max_examples=60)
@given(data=st.data())
def test_flipped_bytes_give_an_image_or_a_refusal_and_nothing_else(name: str, data: st.DataObject) -> None:
    damaged = bytearray(ENCODED[name])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_image(bytes(damaged), name="x", limits=DecodeLimits(max_pixels=1_000_000))
    except ImageError:
        return
    assert decoded.mode in ("L", "RGB")


@pytest.mark.parametrize(
    "signature", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\x00", b"RIFF    WEBP"]
)
def test_a_signature_alone_is_refused(signature: bytes) -> None:
    assert refusal(signature).reason in ("truncated", "corrupt")


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(noise: bytes) -> None:
    refusal(b"\x01" + noise)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"8BPS\x00\x01" + bytes(30), "PSD"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS"),
        (b"\x00\x00\x00\x1cftypheic" + bytes(30), "HEIC"),
        (b"\x00\x00\x00\x1cftypavif" + bytes(30), "AVIF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    ],
)
def test_other_image_formats_are_refused_by_name(data: bytes, named: str) -> None:
    error = refusal(data)
    assert error.reason == "unsupported-format"
    assert named in str(error)


def test_a_format_outside_the_allow_list_is_refused() -> None:
    error = refusal(ENCODED["TIFF"], DecodeLimits(formats=("PNG", "JPEG")))
    assert error.reason == "unsupported-format"
    assert "PNG, JPEG" in str(error)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused_as_animated(file_format: str) -> None:
    frames = [photo(), photo().transpose(Image.Transpose.ROTATE_180)]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert refusal(data).reason == "animated"


def test_an_animation_is_refused_even_if_its_second_frame_is_cut() -> None:
    frames = [photo().quantize(16), photo().transpose(Image.Transpose.ROTATE_180).quantize(16)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert refusal(data[: int(0.9 * len(data))]).reason == "animated"


@pytest.mark.parametrize("side", [8_000, 12_000, 16_000, 60_000])  # also around the thresholds of Pillow's own warning
@pytest.mark.parametrize("bomb", [png_bomb, gif_bomb])
def test_a_decompression_bomb_is_refused_by_its_header(bomb: object, side: int) -> None:
    assert callable(bomb)
    error = refusal(bomb(side, side))
    assert error.reason == "too-many-pixels"
    assert f"{side} x {side}" in str(error)


@pytest.mark.parametrize("side", [8_000, 12_000, 16_383])
def test_a_webp_bomb_is_refused_before_its_canvas_is_reserved(side: int) -> None:
    assert refusal(webp_bomb(side, side)).reason == "too-many-pixels"


@pytest.mark.parametrize("name", ENCODED)
def test_the_pixel_limit_is_exact(name: str) -> None:
    count = 24 * 36
    assert decode_image(ENCODED[name], name="a", limits=DecodeLimits(max_pixels=count)).size == (36, 24)
    assert refusal(ENCODED[name], DecodeLimits(max_pixels=count - 1)).reason == "too-many-pixels"


def test_the_byte_limit_is_exact() -> None:
    data = ENCODED["PNG"]
    assert decode_image(data, name="a", limits=DecodeLimits(max_bytes=len(data))).size == (36, 24)
    assert refusal(data, DecodeLimits(max_bytes=len(data) - 1)).reason == "too-many-bytes"


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_samples_without_a_defined_white_are_refused(dtype: type) -> None:
    assert refusal(encode(Image.fromarray(texture(channels=1).astype(dtype)), "TIFF")).reason == "unsupported-mode"


def test_deep_grey_with_white_at_zero_is_refused() -> None:
    data = tiff_of_deep_grey(np.zeros((2, 2), dtype=np.uint16), white_is_zero=True)
    assert refusal(data).reason == "unsupported-mode"


def test_a_compressed_text_bomb_is_refused() -> None:
    bomb = png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(bytes(64 << 20), 9))
    data = ENCODED["PNG"]
    assert refusal(data[:33] + bomb + data[33:]).reason == "corrupt"


@pytest.mark.parametrize("wrong", [{"formats": ("EPS",)}, {"formats": ()}, {"max_bytes": 0}, {"max_pixels": 0}])
def test_senseless_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"formats must name|must be positive"):
        DecodeLimits(**wrong)  # type: ignore[arg-type]


def test_threads_decode_under_limits_of_their_own_and_leave_no_flag_behind() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    data = ENCODED["PNG"]

    def attempt(index: int) -> str:
        try:
            decode_image(data, name="a", limits=DecodeLimits(max_pixels=100 if index % 2 else 1000))
        except ImageError as error:
            return error.reason
        return "decoded"

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(attempt, range(200)))
    assert answers == ["decoded", "too-many-pixels"] * 100
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
