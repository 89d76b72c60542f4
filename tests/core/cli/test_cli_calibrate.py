"""`pcdm calibrate` on a tiny cascade of random weights."""

import json
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from invoking import invoke
from numpy.typing import NDArray
from PIL import Image

from pcdm_core.detection import EnsembleDetector
from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig, save_pretrained
from pcdm_core.scoring import CascadeScorer, Fidelity, Findings, Score

_QUICK = ("--detector", "spectrum")


def random_cascade() -> Cascade:
    """With weights that are not the zeros that they start from, so that the spectrum varies."""
    torch.manual_seed(1)
    network = NetworkConfig(channels=8, blocks=1, attention=False)
    cascade = Cascade(CascadeConfig(image_shape=(1, 8, 8), networks=(network, network)))
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return cascade


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with smooth images, noise images, and a model calibrated on the smooth ones."""
    folder = tmp_path_factory.mktemp("workshop")
    save_pretrained(random_cascade(), folder / "model")
    generator = np.random.default_rng(0)
    ramp = np.arange(8)[:, None] * generator.integers(2, 9, (100, 1, 1)) + 4 * np.arange(8)
    np.savez(folder / "smooth.npz", images=(ramp + generator.integers(0, 120, (100, 1, 1))).astype(np.uint8))
    np.savez(folder / "noise.npz", images=generator.integers(0, 256, (24, 8, 8), dtype=np.uint8))
    np.savez(folder / "dark.npz", images=generator.integers(0, 9, (24, 8, 8), dtype=np.uint8))
    code, _, error = invoke(
        "calibrate", folder / "model", "--fit", f"{folder / 'smooth.npz'}[:60]", "--nodes", 2, *_QUICK
    )
    assert code == 0, error
    return folder


def measure(workshop: Path, *options: object) -> tuple[int, str, str]:
    sets = ("--id", f"{workshop / 'smooth.npz'}[60:]", "--ood", workshop / "noise.npz", "--ood", workshop / "dark.npz")
    return invoke("calibrate", workshop / "model", *sets, *options)


def measured(workshop: Path, *options: object) -> Any:
    code, output, error = measure(workshop, "--json", *options)
    assert code == 0, error
    return json.loads(output)


def test_several_sets_are_measured_at_once(workshop: Path) -> None:
    document = measured(workshop)
    assert [row["source"] for row in document["sets"]] == [f"{workshop / name}.npz" for name in ("noise", "dark")]
    assert [rate["alpha"] for rate in document["id"]["rates"]] == [0.01, 0.05, 0.1]
    for row in document["sets"]:
        assert (row["n_in"], row["n_out"]) == (40, 24)
        assert row["auroc"]["value"] > 0.9
        assert row["score_against_bits_per_dim"]["stderr"] >= 0
        assert [group["size"] for group in row["groups"]] == [2, 5, 10]
    assert document["largest_batch"] == {"rate": 0.05, "images": 1}


def test_tables_tell_figures_and_rates(workshop: Path) -> None:
    code, output, error = measure(workshop)
    assert code == 0, error
    for words in ("AUROC of bits/dim alone", "FPR at 95 % TPR, ID positive", "groups of 10", "tolerance", "among at"):
        assert words in output


def test_of_images_that_are_measured_no_more_than_two_blocks_are_in_memory(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        CascadeScorer.__init__, "__kwdefaults__", {**(CascadeScorer.__init__.__kwdefaults__ or {}), "batch_size": 4}
    )
    plain, kept = CascadeScorer.findings, list[weakref.ref[NDArray[np.float64]]]()

    def findings(self: CascadeScorer, images: NDArray[np.uint8], fidelity: Fidelity) -> Findings:
        assert sum(one() is not None for one in kept) <= 1
        found = plain(self, images, fidelity)
        kept.append(weakref.ref(found.features))
        return found

    monkeypatch.setattr(CascadeScorer, "findings", findings)
    document = measured(workshop)
    assert len(kept) == (40 + 24 + 24) / 4
    monkeypatch.undo()
    for one, whole in zip(document["sets"], measured(workshop)["sets"], strict=True):
        # Batches of another size move the last bits.
        assert one["auroc"]["value"] == pytest.approx(whole["auroc"]["value"], abs=0.01)


def test_other_detectors_are_measured_beside_the_one_in_use(workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(workshop / "model", tmp_path / "model")
    data = (f"{workshop / 'smooth.npz'}[:60]", f"{workshop / 'smooth.npz'}[60:]", workshop / "noise.npz")
    sets = [word for pair in zip(("--fit", "--id", "--ood"), data, strict=True) for word in pair]
    # The last one makes the evaluation wider, which the calibration does not notice.
    others = ("--compare", "bits_per_dim", "--compare", "spectrum", "--compare", "middle")
    options = (*sets, "--nodes", 2, *_QUICK, *others)
    code, output, error = invoke("calibrate", tmp_path / "model", *options, "--json")
    assert code == 0, error
    (row,) = json.loads(output)["sets"]
    assert list(row["compared"]) == ["bits_per_dim", "spectrum", "middle"]
    assert row["compared"]["bits_per_dim"]["auroc"] == row["bits_per_dim"]["auroc"]
    assert row["compared"]["bits_per_dim"]["score_against_it"] == row["score_against_bits_per_dim"]
    assert row["compared"]["spectrum"]["auroc"] == row["auroc"]
    assert row["compared"]["spectrum"]["score_against_it"] == {"difference": 0.0, "stderr": 0.0, "p_value": 1.0}
    file = "model/calibration.json"
    assert (tmp_path / file).read_bytes() == (workshop / file).read_bytes()
    code, output, error = invoke("calibrate", tmp_path / "model", *options)
    assert code == 0, error
    assert "AUROC of spectrum" in output
    assert "AUROC, score minus bits_per_dim (DeLong)" in output


def test_an_ensemble_is_calibrated_of_the_members_asked_for(workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(workshop / "model", tmp_path / "model")
    members = ("--detector", "ensemble", "--member", "typicality", "--member", "complexity")
    code, _, error = invoke("calibrate", tmp_path / "model", "--fit", workshop / "smooth.npz", "--nodes", 2, *members)
    assert code == 0, error
    scorer = CascadeScorer.from_pretrained(tmp_path / "model")
    assert scorer.calibration is not None
    ensemble = scorer.calibration.detector
    assert isinstance(ensemble, EnsembleDetector)
    assert {name: len(own) for name, own in ensemble.columns_.items()} == {"typicality": 1, "complexity": 3}
    assert scorer.score(np.load(workshop / "noise.npz")["images"][:1, None])[0].p_value is not None


def test_a_calibration_set_calibrates_what_all_of_the_fit_images_fit(workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(workshop / "model", tmp_path / "model")
    smooth = workshop / "smooth.npz"
    words = ("calibrate", tmp_path / "model", "--nodes", 2, *_QUICK)
    code, _, error = invoke(*words, "--fit", f"{smooth}[:30]", "--calibration-set", f"{smooth}[30:80]")
    assert code == 0, error
    # Of `smooth[:60]`, 30 have fitted the workshop's own, and the 30 after these have calibrated it.
    models = (workshop / "model", tmp_path / "model")
    of_halves, of_sets = (CascadeScorer.from_pretrained(model).calibration for model in models)
    assert of_halves is not None
    assert of_sets is not None
    assert of_sets.detector.offset_ == pytest.approx(of_halves.detector.offset_, abs=1e-5)
    assert len(of_sets.calibration_scores) == 50
    apart = np.abs(np.subtract.outer(of_halves.calibration_scores, of_sets.calibration_scores))
    assert apart.min(axis=1).max() < 1e-5
    assert of_sets.provenance == {
        "data": f"{smooth}[:30]",
        "calibration_set": f"{smooth}[30:80]",
        "fit_images": 30,
        "calibration_images": 50,
    }


def test_a_calibration_set_that_overlaps_the_fit_is_refused_and_nothing_is_written(
    workshop: Path, tmp_path: Path
) -> None:
    shutil.copytree(workshop / "model", tmp_path / "model")
    smooth, before = workshop / "smooth.npz", (tmp_path / "model/calibration.json").read_bytes()
    sets = ("--fit", f"{smooth}[:30]", "--calibration-set", f"{smooth}[29:80]")
    code, _, error = invoke("calibrate", tmp_path / "model", "--nodes", 2, *_QUICK, *sets)
    assert code == 2
    assert "share images, 1 of them: take windows that do not overlap" in " ".join(error.split())
    assert (tmp_path / "model/calibration.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--calibration-set", "smooth.npz"), "--calibration-set: only with --fit"),
        (("--fit", "smooth.npz", "--calibration-set", "smooth.npz"), "--calibration-set: must be other images than"),
        (("--fit", "smooth.npz", "--calibration-set", "missing.npz"), "missing.npz: no such file or folder"),
        (("--compare", "typicality"), "--compare: others are fitted on --fit"),
        (("--fit", "smooth.npz", "--compare", "forest"), "--id and --ood, give these"),
        (("--fit", "smooth.npz", "--member", "typicality"), "only --detector ensemble has members"),
        (
            ("--fit", "smooth.npz", "--detector", "forest"),
            "unknown detector 'forest'; known: alignment, alignment_neighbours, bits_per_dim",
        ),
        (("--fit", "smooth.npz", "--detector", "ensemble", "--member", "forest"), "unknown member 'forest'"),
        (("--member", "typicality"), "--member: only with --fit"),
    ],
)
def test_detectors_that_cannot_be_had_are_refused_before_anything_is_scored(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], message: str
) -> None:
    monkeypatch.setattr(CascadeScorer, "score", lambda *_: pytest.fail("scored"))
    words = [workshop / word if word.endswith(".npz") else word for word in options]
    code, _, error = invoke("calibrate", workshop / "model", *words)
    assert code == 2
    assert message in error


def test_a_missing_set_is_told_before_the_others_are_scored(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CascadeScorer, "score", lambda *_: pytest.fail("scored"))
    missing = tmp_path / "missing.npz"
    code, _, error = measure(workshop, "--ood", missing, "--fit", f"{workshop / 'smooth.npz'}[:20]")
    assert code == 2
    assert "missing.npz: no such file" in error


def test_nothing_to_do_is_told(workshop: Path) -> None:
    code, output, error = invoke("calibrate", workshop / "model")
    assert (code, output) == (2, "")
    assert "nothing to do: give --fit, or --id and --ood" in error


def test_sets_are_measured_against_each_other_only(workshop: Path) -> None:
    code, _, error = invoke("calibrate", workshop / "model", "--id", workshop / "smooth.npz")
    assert code == 2
    assert "--id and --ood are measured against each other: give both" in error


def test_report_shows_the_images_by_name(workshop: Path, tmp_path: Path) -> None:
    for place, pixels in enumerate(np.load(workshop / "noise.npz")["images"][:3]):
        Image.fromarray(pixels).save(tmp_path / f"<b>{place}&quot;.png")
    code, _, error = measure(workshop, "--limit", 20, "--ood", tmp_path, "--report", tmp_path / "report.html")
    assert code == 0, error
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;0&amp;quot;.png" in page
    assert "<b>" not in page


def test_a_report_without_sets_is_refused(workshop: Path, tmp_path: Path) -> None:
    code, _, error = invoke("calibrate", workshop / "model", "--report", tmp_path / "report.html")
    assert code == 2
    assert "--report: it tells of --id and --ood, give both" in error


def test_a_report_in_no_folder_is_refused_before_anything_is_scored(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CascadeScorer, "score", lambda *_: pytest.fail("scored"))
    code, _, error = measure(workshop, "--report", tmp_path / "none" / "report.html")
    assert code == 2
    assert "report.html: no such folder to write to" in error


# As `pcdm`, with the threads that tests have: sums are split among them.
_ROOT = Path(__file__).parents[3]
_PCDM = "import torch; torch.set_num_threads(1); from pcdm_core.cli import app; app()"


def kill_in_the_middle(arguments: list[str], cache: Path) -> None:
    """Run `pcdm` in a process of its own and kill it when it has kept its first scores."""
    command = [sys.executable, "-c", _PCDM, *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not list(cache.glob("*.findings")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(1)
    np.savez(tmp_path / "normal.npz", images=generator.integers(40, 90, (180, 8, 8), dtype=np.uint8))
    np.savez(tmp_path / "odd.npz", images=generator.integers(0, 256, (30, 8, 8), dtype=np.uint8))
    for name in ("whole", "killed"):
        shutil.copytree(workshop / "model", tmp_path / name / "model")

    def arguments(name: str, *options: object) -> list[str]:
        fit, held_out = (f"{tmp_path / 'normal.npz'}{window}" for window in ("[:140]", "[140:]"))
        words = ("calibrate", tmp_path / name / "model", "--fit", fit, "--id", held_out, "--ood", tmp_path / "odd.npz")
        return [str(word) for word in (*words, "--nodes", 3, *options, "--json")]

    # Blocks of 128 images: two, one and one.
    resumed = arguments("killed", "--cache", tmp_path / "cache", "--report", tmp_path / "killed.html")
    kill_in_the_middle(resumed, tmp_path / "cache")
    kept = len(list((tmp_path / "cache").glob("*.findings")))
    assert 1 <= kept < 4
    assert not (tmp_path / "killed.html").exists()
    uninterrupted = invoke(*arguments("whole", "--report", tmp_path / "whole.html"))
    scored: list[int] = []
    plain = CascadeScorer.score

    def score(scorer: CascadeScorer, images: NDArray[np.uint8], fidelity: Fidelity) -> list[Score]:
        scored.append(len(images))
        return plain(scorer, images, fidelity)

    monkeypatch.setattr(CascadeScorer, "score", score)
    assert invoke(*resumed) == uninterrupted
    assert len(scored) == 4 - kept
    assert max(scored) <= 128
    calibrations = [(tmp_path / name / "model/calibration.json").read_bytes() for name in ("whole", "killed")]
    assert calibrations[0] == calibrations[1]
    assert (tmp_path / "whole.html").read_bytes() == (tmp_path / "killed.html").read_bytes()
