"""What a request gets: scores of honest images, and a problem that names what is wrong with any other."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from service_doubles import check_problem, score, serving, tiny_cascade, tiny_scorer, upload

from pcdm_core.model import Cascade
from pcdm_core.scoring import FIDELITIES, CascadeScorer, FidelityName
from service import Settings
from service.schemas import Problem

from hostile_images import encode, gif_bomb, photo, png_bomb, webp_bomb  # isort: skip  # found through service_doubles

NATIVE = encode(photo(8, 8))


# Answers


async def test_images_are_scored_in_the_order_of_the_upload() -> None:
    other = encode(photo(8, 8).rotate(90))
    async with serving() as client:
        answer = await score(client, ("a.png", NATIVE), ("b.png", other))
        alone = (await score(client, ("b.png", other))).json()
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["model"], body["digest"]) == ("tiny", "0123")
    assert (body["fidelity"]["name"], body["fidelity"]["method"], body["fidelity"]["nodes"]) == ("fast", "bound", 10)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert [one["source"] for one in body["results"]] == ["a.png", "b.png"]
    for one in body["results"]:
        assert (one["original_size"], one["scored_size"], one["resized"]) == ([8, 8], [8, 8], False)
        assert (one["score"], one["p_value"], one["is_ood"]) == (None, None, None)
        assert sum(one["terms"].values()) == pytest.approx(one["bits_per_dim"])
        assert one["errors"]["time"] > 0
        assert one["network_calls"] == 2 * FIDELITIES["fast"].nodes
    assert body["results"][1]["bits_per_dim"] == pytest.approx(alone["results"][0]["bits_per_dim"], abs=1e-4)


@pytest.mark.parametrize(("name", "method"), [("fast", "bound"), ("balanced", "bound"), ("exact", "flow")])
async def test_a_request_chooses_its_fidelity(name: FidelityName, method: str) -> None:
    async with serving() as client:
        answer = await score(client, ("a.png", NATIVE), fidelity=name)
    assert answer.status_code == 200, answer.text
    body, [one] = answer.json(), answer.json()["results"]
    told, wanted = body["fidelity"], FIDELITIES[name]
    assert (told.pop("name"), told.pop("activations"), told["method"]) == (name, False, method)
    assert {setting: value for setting, value in told.items() if value is not None} == wanted.settings()
    calm = tiny_scorer().score(np.asarray(photo(8, 8)).transpose(2, 0, 1)[None], wanted)[0]
    assert one["bits_per_dim"] == pytest.approx(calm.bits_per_dim, abs=1e-4)
    assert one["network_calls"] == calm.network_calls
    assert one["errors"] == {"noise": None, "time": pytest.approx(calm.time_error, abs=1e-4)}


async def test_a_fidelity_that_the_model_does_not_have_is_refused() -> None:
    config = tiny_cascade().config.model_copy(update={"transform": "downsample"})
    async with serving(CascadeScorer(Cascade(config), model_name="loose", digest="0")) as client:
        problem = check_problem(await score(client, ("a.png", NATIVE), fidelity="exact"), 422)
        assert problem["type"].endswith("no-such-fidelity")
        assert problem["detail"] == "loose has no fidelity exact, only fast, balanced"
        unknown = check_problem(await score(client, ("a.png", NATIVE), fidelity="best"), 422)
    assert "'fast', 'balanced' or 'exact'" in unknown["errors"][0]["message"]


async def test_another_size_is_scored_resized_and_said_so() -> None:
    async with serving() as client:
        [one] = (await score(client, ("photo.jpg", encode(photo(24, 36), "JPEG")))).json()["results"]
    assert (one["original_size"], one["scored_size"], one["resized"]) == ([36, 24], [8, 8], True)


async def test_strict_takes_the_native_size_and_refuses_another() -> None:
    async with serving() as client:
        assert (await score(client, ("a.png", NATIVE), strict="true")).status_code == 200
        problem = check_problem(await score(client, ("b.png", encode(photo())), strict="true"), 422)
    assert (problem["source"], problem["reason"]) == ("b.png", "wrong-size")


async def test_a_file_without_a_name_is_called_by_its_position() -> None:
    async with serving() as client:
        body = b'--b\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n' + NATIVE + b"\r\n--b--\r\n"
        answer = await client.post("/score", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert answer.json()["results"][0]["source"] == "files[0]"


# Refusals

HOSTILE = [
    ("nothing.png", b"", 422, "empty"),
    ("text.png", b"hello, world\n", 422, "not-an-image"),
    ("truncated.png", encode(photo())[:-400], 422, "truncated"),
    ("truncated.jpg", encode(photo(), "JPEG")[:-400], 422, "truncated"),
    ("vector.avif", b"\x00\x00\x00\x1cftypavif" + bytes(40), 415, "unsupported-format"),
    ("bomb.png", png_bomb(30_000, 30_000), 422, "too-many-pixels"),
    ("bomb.gif", gif_bomb(30_000, 30_000), 422, "too-many-pixels"),
    ("bomb.webp", webp_bomb(16_000, 16_000), 422, "too-many-pixels"),
    ("film.gif", encode(photo(), "GIF", save_all=True, append_images=[photo(8, 8).resize((36, 24))]), 422, "animated"),
    ("large.png", encode(photo(150, 150)), 413, "too-many-bytes"),
]
# Each with the plain RGB image that it has to be scored as.
PHOTO = photo(8, 8)
STRIPES = np.arange(64, dtype=np.uint8).reshape(8, 8)
TRANSPARENT = Image.merge("RGBA", (*PHOTO.split(), Image.new("L", (8, 8), 0)))
INKS = encode(PHOTO.convert("CMYK"), "JPEG")
TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be turned clockwise by a quarter
ODD_BUT_FINE = {
    "one-pixel.png": (encode(Image.new("RGB", (1, 1), (9, 99, 199))), Image.new("RGB", (8, 8), (9, 99, 199))),
    "deep.png": (encode(Image.fromarray(STRIPES * np.uint16(257))), Image.fromarray(STRIPES).convert("RGB")),
    "grey.png": (encode(Image.fromarray(STRIPES)), Image.fromarray(STRIPES).convert("RGB")),
    "alpha.png": (encode(TRANSPARENT), Image.new("RGB", (8, 8), "white")),
    "palette.png": (encode(PHOTO.quantize(16)), PHOTO.quantize(16).convert("RGB")),
    "cmyk.jpg": (INKS, Image.open(io.BytesIO(INKS)).convert("RGB")),
    "turned.png": (encode(PHOTO.transpose(Image.Transpose.ROTATE_90), exif=TURNED), PHOTO),
}


@pytest.mark.parametrize(("name", "data", "status", "reason"), HOSTILE, ids=[case[0] for case in HOSTILE])
async def test_a_hostile_file_is_named_with_its_reason(name: str, data: bytes, status: int, reason: str) -> None:
    async with serving(settings=Settings(max_image_bytes=50_000)) as client:
        problem = check_problem(await score(client, ("good.png", NATIVE), (name, data)), status)
        assert (problem["source"], problem["reason"]) == (name, reason)
        assert problem["detail"].startswith(f"{name}: ")
        assert problem["type"] == "urn:problem-type:pcdm:image-refused"
        assert (await client.get("/healthz")).status_code == 200
        assert (await score(client, ("good.png", NATIVE))).status_code == 200


@pytest.mark.parametrize("name", ODD_BUT_FINE)
async def test_an_odd_but_honest_image_is_scored_as_its_plain_form(name: str) -> None:
    data, plain = ODD_BUT_FINE[name]
    async with serving() as client:
        answer = await score(client, (name, data), ("plain.png", encode(plain)))
        assert (await score(client, ("good.png", NATIVE))).status_code == 200
    assert answer.status_code == 200, answer.text
    odd, same = answer.json()["results"]
    size = [1, 1] if name == "one-pixel.png" else [8, 8]
    assert (odd["source"], odd["original_size"], odd["resized"]) == (name, size, size != [8, 8])
    assert odd["bits_per_dim"] == pytest.approx(same["bits_per_dim"], abs=1e-4)


async def test_a_photograph_of_12_megapixels_is_scored_or_refused_under_strict() -> None:
    # Of few details, as it would take its time to be written otherwise.
    large = encode(photo(30, 40).resize((4000, 3000), Image.Resampling.BILINEAR), "JPEG")
    async with serving() as client:
        [one] = (await score(client, ("camera.jpg", large))).json()["results"]
        problem = check_problem(await score(client, ("camera.jpg", large), strict="true"), 422)
    assert (one["original_size"], one["scored_size"], one["resized"]) == ([4000, 3000], [8, 8], True)
    assert (problem["source"], problem["reason"]) == ("camera.jpg", "wrong-size")
    assert problem["detail"].startswith("camera.jpg: the image is 4000 x 3000 RGB, the model takes 8 x 8 RGB")


async def test_exif_orientation_is_undone_before_the_size_is_told() -> None:
    async with serving() as client:
        [one] = (await score(client, ("turned.jpg", encode(photo(24, 36), "JPEG", exif=TURNED)))).json()["results"]
    assert one["original_size"] == [24, 36]


async def test_too_many_images_are_refused() -> None:
    async with serving(settings=Settings(max_images=2)) as client:
        problem = check_problem(await score(client, *[("a.png", NATIVE)] * 3), 413)
    assert problem["type"].endswith("too-many-images")


@pytest.mark.parametrize("declared", [True, False])
async def test_a_large_body_is_refused_whether_or_not_it_says_so(declared: bool) -> None:
    async def chunks() -> Any:
        yield b"--b\r\n"
        yield bytes(2000)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    content = bytes(2000) if declared else chunks()
    async with serving(settings=Settings(max_request_bytes=1000)) as client:
        problem = check_problem(await client.post("/score", content=content, headers=headers), 413)
        assert problem["type"].endswith("request-too-large")
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET", "url": "/nowhere"}, 404),
        ({"method": "GET", "url": "/score"}, 405),
        ({"method": "POST", "url": "/score"}, 422),
        ({"method": "POST", "url": "/score", "data": {"files": "text"}}, 422),
        ({"method": "POST", "url": "/score?strict=perhaps", "files": upload(("a.png", NATIVE))}, 422),
        ({"method": "POST", "url": "/score", "headers": {"Content-Type": "multipart/form-data"}}, 400),
    ],
)
async def test_a_misfit_request_is_a_problem(request_: dict[str, Any], status: int) -> None:
    async with serving() as client:
        answer = await client.request(**request_)
    problem = check_problem(answer, status)
    Problem.model_validate(problem)
    if status == 422:
        assert problem["errors"][0]["location"] in ("body.files", "body.files.0", "query.strict")
    if status == 405:
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(("offered", "kept"), [("trace-7.a_B", True), ("two words", False), ("x" * 65, False)])
async def test_a_plain_request_id_is_kept(offered: str, kept: bool) -> None:
    async with serving() as client:
        answer = await client.get("/healthz", headers={"X-Request-ID": offered})
    assert (answer.headers["x-request-id"] == offered) is kept
