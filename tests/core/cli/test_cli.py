"""The commands, on a tiny cascade that is trained, calibrated and asked within the test."""

import gc
import io
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from pcdm_core.cli import app
from pcdm_core.scoring import CascadeScorer, Fidelity, Score

_CONFIG = """
data = "unused"
batch_size = 16
steps = 12
precision = "float32"
ema_decay = 0.9

[optimizer]
learning_rate = 1e-3
warmup_steps = 2

[cascade]
image_shape = [3, 8, 8]

[[cascade.networks]]
channels = 8
blocks = 1
attention = false

[[cascade.networks]]
channels = 8
blocks = 1
attention = false
patch = 2
"""


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with smooth images, noise images, and a model trained and calibrated on the smooth ones."""
    folder = tmp_path_factory.mktemp("workshop")
    generator = np.random.default_rng(0)
    ramp = np.arange(8)[:, None] * generator.integers(2, 9, (160, 1, 1, 1)) + 4 * np.arange(8)
    smooth = np.repeat(ramp, 3, axis=1).transpose(0, 2, 3, 1) + generator.integers(0, 120, (160, 1, 1, 3))
    np.savez(folder / "smooth.npz", images=smooth.astype(np.uint8))
    np.savez(folder / "noise.npz", images=generator.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8))
    (folder / "tiny.toml").write_text(_CONFIG)
    code, _, error = invoke(
        "train", folder / "tiny.toml", "--output", folder / "run", "--data", f"{folder / 'smooth.npz'}[:60]"
    )
    assert code == 0, error
    code, _, error = invoke(
        "calibrate", folder / "run/model", "--fit", f"{folder / 'smooth.npz'}[60:140]", "--nodes", 3
    )
    assert code == 0, error
    return folder


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back what a server sets up for its process, as handlers that write to the output caught in this test."""
    monkeypatch.setenv("PCDM_NICENESS", "0")  # which cannot be taken back
    loggers = [logging.getLogger(name) for name in ("", "pcdm_core", "service", "uvicorn")]
    before = [(logger.handlers[:], logger.level) for logger in loggers]
    threshold = gc.get_threshold()
    yield
    for logger, (handlers, level) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
    gc.unfreeze()
    gc.set_threshold(*threshold)


def test_evaluate_prints_the_terms_of_the_bound(workshop: Path) -> None:
    code, output, error = invoke("evaluate", workshop / "run/model", workshop / "smooth.npz", "--limit", 20, "--json")
    assert code == 0, error
    answer = json.loads(output)
    assert answer["images"] == 20
    assert answer["bits_per_dim"]["stderr"] > 0
    assert sum(answer["terms"].values()) == pytest.approx(answer["bits_per_dim"]["mean"])


def test_score_flags_noise_and_not_what_it_was_trained_on(workshop: Path) -> None:
    normal, odd = f"{workshop / 'smooth.npz'}[140:]", str(workshop / "noise.npz")
    code, output, error = invoke("score", normal, odd, "--model", workshop / "run/model", "--json")
    assert code == 0, error
    results = json.loads(output)["results"]
    assert len(results) == 60
    assert all(result["is_ood"] for result in results[20:])
    assert sum(result["is_ood"] for result in results[:20]) <= 8


def test_score_takes_a_fidelity_and_tells_its_errors(workshop: Path) -> None:
    def ask(*options: object) -> Any:
        code, output, error = invoke(
            "score", workshop / "noise.npz", "--model", workshop / "run/model", "--limit", 2, "--json", *options
        )
        assert code == 0, error
        return json.loads(output)

    fast, exact = ask(), ask("--fidelity", "exact")
    assert (fast["fidelity"]["name"], fast["fidelity"]["method"], fast["fidelity"]["nodes"]) == ("fast", "bound", 3)
    assert (exact["fidelity"]["name"], exact["fidelity"]["method"]) == ("exact", "flow")
    for one, other in zip(fast["results"], exact["results"], strict=True):
        assert one["p_value"] == other["p_value"]
        assert one["bits_per_dim"] != other["bits_per_dim"]
        assert one["network_calls"] < other["network_calls"]
        assert one["errors"]["time"] > other["errors"]["time"] > 0


def test_score_prints_a_table_by_default(workshop: Path) -> None:
    code, output, _ = invoke("score", workshop / "noise.npz", "--model", workshop / "run/model", "--limit", 1)
    assert code == 0
    assert "out of" in output


def test_score_reads_a_folder_in_batches_of_the_model(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.load(workshop / "noise.npz")["images"][:5]
    for index, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    _, whole, _ = invoke("score", tmp_path, "--model", workshop / "run/model", "--json")
    opened: list[int] = []
    plain = CascadeScorer.score

    def score_batch(scorer: CascadeScorer, batch: NDArray[np.uint8], fidelity: Fidelity) -> list[Score]:
        opened.append(len(batch))
        return plain(scorer, batch, fidelity)

    load = CascadeScorer.from_pretrained

    def load_small(folder: Path, **options: Any) -> CascadeScorer:
        scorer = load(folder, **options)
        scorer.batch_size = 2
        return scorer

    monkeypatch.setattr(CascadeScorer, "score", score_batch)
    monkeypatch.setattr(CascadeScorer, "from_pretrained", load_small)
    code, output, error = invoke("score", tmp_path, "--model", workshop / "run/model", "--json")
    assert code == 0, error
    assert opened == [2, 2, 1]
    results, expected = json.loads(output)["results"], json.loads(whole)["results"]
    assert [Path(result["source"]).name for result in results] == [f"{index}.png" for index in range(5)]
    for result, one in zip(results, expected, strict=True):
        assert result["bits_per_dim"] == pytest.approx(one["bits_per_dim"], abs=1e-4)


def test_score_takes_a_table_as_it_takes_an_array(workshop: Path, tmp_path: Path) -> None:
    parquet, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    cells = []
    for pixels in np.load(workshop / "noise.npz")["images"][:3]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        cells.append(buffer.getvalue())
    parquet.write_table(pa.table({"image": cells}), tmp_path / "noise.parquet")
    answers = []
    for path in (tmp_path / "noise.parquet", workshop / "noise.npz"):
        code, output, error = invoke("score", path, "--model", workshop / "run/model", "--limit", 3, "--json")
        assert code == 0, error
        answers.append(json.loads(output)["results"])
    assert [one["source"] for one in answers[0]] == [f"{tmp_path / 'noise.parquet'}#{row}" for row in range(3)]
    assert [one["score"] for one in answers[0]] == pytest.approx([one["score"] for one in answers[1]], abs=1e-4)


def test_score_names_the_broken_image_of_a_folder(workshop: Path, tmp_path: Path) -> None:
    Image.fromarray(np.load(workshop / "noise.npz")["images"][0]).save(tmp_path / "a-good.png")
    (tmp_path / "b-broken.png").write_bytes((tmp_path / "a-good.png").read_bytes()[:100])
    code, output, error = invoke("score", tmp_path, "--model", workshop / "run/model", "--json")
    assert (code, output) == (2, "")
    assert "b-broken.png: the PNG file is truncated" in error


def test_score_tells_a_missing_path_before_it_scores_the_others(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CascadeScorer, "score", lambda *_: pytest.fail("scored"))
    missing = tmp_path / "missing.png"
    code, _, error = invoke("score", workshop / "noise.npz", missing, "--model", workshop / "run/model")
    assert code == 2
    assert "missing.png: no such file" in error


def test_serve_tells_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        code, _, error = invoke("serve", "--port", port)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): choose another --port" in error


def test_serve_tells_a_port_for_metrics_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        monkeypatch.setenv("PCDM_METRICS_PORT", str(port))
        code, _, error = invoke("serve", "--port", 0)
    assert code == 2
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): choose another PCDM_METRICS_PORT" in error


def test_serve_tells_a_setting_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCDM_MAX_BATCH", "0")
    code, _, error = invoke("serve", "--port", 0)
    assert code == 2
    assert error.startswith("error: PCDM_MAX_BATCH: Input should be greater than or equal to 1")


def test_serve_ends_where_there_is_no_model(tmp_path: Path) -> None:
    code, _, error = invoke("serve", "--model", tmp_path / "nothing", "--port", 0)
    assert code == 2
    assert "error: " in error
    assert "config.json is missing" in error


def test_serve_does_not_look_for_garbage_in_what_was_imported(tmp_path: Path) -> None:
    assert gc.get_freeze_count() == 0
    invoke("serve", "--model", tmp_path / "nothing", "--port", 0)
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold()[0] > 10_000


def test_serve_takes_the_model_of_the_command_line_before_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PCDM_MODELS", "elsewhere")
    code, _, error = invoke("serve", "--model", tmp_path / "typed", "--port", 0)
    assert code == 2
    assert str(tmp_path / "typed") in error
    assert "elsewhere" in invoke("serve", "--port", 0)[2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--model", "a", "--models", "b"), "--model and --models: choose one"),
        (("--models", "a/toy,b/toy"), "two models are called toy (a/toy and b/toy)"),
    ],
)
def test_serve_refuses_models_that_it_cannot_tell_apart(words: tuple[str, ...], told: str) -> None:
    code, _, error = invoke("serve", *words, "--port", 0)
    assert code == 2
    assert told in error


def test_serve_ends_where_the_model_is_broken(workshop: Path, tmp_path: Path) -> None:
    for file in (workshop / "run/model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes()[:-100])
    code, _, error = invoke("serve", "--model", tmp_path, "--port", 0)
    assert code == 2
    assert str(tmp_path) in error


def test_calibrate_measures_sets_against_each_other(workshop: Path) -> None:
    code, output, error = invoke(
        "calibrate",
        workshop / "run/model",
        "--id",
        f"{workshop / 'smooth.npz'}[140:]",
        "--ood",
        workshop / "noise.npz",
        "--json",
    )
    assert code == 0, error
    (row,) = json.loads(output)["sets"]
    assert row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"]
    assert row["auroc"]["value"] > 0.95


def test_the_detector_asked_for_is_the_one_that_is_fitted(workshop: Path, tmp_path: Path) -> None:
    for file in (workshop / "run/model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    words = ("calibrate", tmp_path, "--fit", f"{workshop / 'smooth.npz'}[60:140]", "--nodes", 2, "--json")
    code, output, error = invoke(*words, "--detector", "spectrum")
    assert code == 0, error
    assert json.loads(output)["detector"] == "spectrum"
    code, output, error = invoke(*words)
    assert code == 0, error
    assert json.loads(output)["detector"] == "alignment_neighbours"


def test_an_unknown_detector_is_named_with_the_known_ones(workshop: Path) -> None:
    words = ("calibrate", workshop / "run/model", "--fit", workshop / "missing.npz", "--detector", "forest")
    code, _, error = invoke(*words)
    assert code == 2
    assert "unknown detector 'forest'; known: alignment, alignment_neighbours, bits_per_dim" in error


@pytest.mark.parametrize("option", [("--further",), ("--nodes", 3), ("--alpha", 0.1)])
def test_a_setting_of_the_fit_is_refused_without_one(workshop: Path, option: tuple[object, ...]) -> None:
    sets = ("--id", f"{workshop / 'smooth.npz'}[140:]", "--ood", workshop / "noise.npz")
    code, _, error = invoke("calibrate", workshop / "run/model", *sets, *option)
    assert code == 2
    assert f"{option[0]}: only with --fit" in error


def test_too_few_calibration_images_are_refused(workshop: Path, tmp_path: Path) -> None:
    for file in (workshop / "run/model").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    code, _, error = invoke("calibrate", tmp_path, "--fit", f"{workshop / 'smooth.npz'}[:20]", "--nodes", 2)
    assert code == 2
    assert "at least 19" in error


def test_an_unknown_configuration_is_named_with_the_known_ones(tmp_path: Path) -> None:
    code, _, error = invoke("train", tmp_path / "nothing.toml")
    assert code == 2
    assert "nothing.toml" in error
    assert "cifar10-haar" in error


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    code, _, error = invoke("evaluate", tmp_path, tmp_path)
    assert code == 2
    assert "config.json is missing" in error.replace("\n", " ")
