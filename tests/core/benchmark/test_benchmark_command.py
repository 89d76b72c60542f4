"""`pcdm benchmark` on a tiny cascade of random weights."""

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_benches import CARD, write_bench
from typer.testing import CliRunner

from pcdm_core.benchmark import ACTIVATION_ROWS, CASCADE_ROWS, PIXEL_ROWS, Classifier, save_classifier
from pcdm_core.cli import app
from pcdm_core.detection import ood_metrics
from pcdm_core.scoring import FIDELITIES, CascadeScorer

needs_pytorch_ood = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_ood") is None,
    reason='pytorch-ood is not installed: pip install "pcdm[benchmark]"',
)
UNSUPERVISED = len(CASCADE_ROWS) + len(PIXEL_ROWS)


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_bench(folder)
    return folder


@pytest.fixture
def nothing_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CascadeScorer, "score", lambda *_: pytest.fail("scored"))


def run(bench: Path, *options: object, out: tuple[str, ...] = ("noise.npz",)) -> tuple[int, str, str]:
    smooth = bench / "smooth.npz"
    words: list[object] = ["benchmark", bench / "model", "--fit", f"{smooth}[:60]", "--in", f"{smooth}[60:]"]
    words += [word for name in out for word in ("--out", bench / name)]
    return invoke(*words, *options)


def document(bench: Path, folder: Path, *options: object, out: tuple[str, ...] = ("noise.npz",)) -> Any:
    code, _, error = run(bench, "--json", folder / "table.json", *options, out=out)
    assert code == 0, error
    return json.loads((folder / "table.json").read_text())


@pytest.fixture(scope="module")
def made(bench: Path) -> tuple[Any, str, str]:
    """The document, the page and the readme of one run."""
    page, readme = bench / "page.md", bench / "README.md"
    readme.write_text("before\n<!-- benchmark:start -->\nold\n<!-- benchmark:end -->\nafter\n")
    found = document(bench, bench, "--output", page, "--readme", readme, out=("noise.npz", "dark.npz"))
    return found, page.read_text(), readme.read_text()


def test_every_score_has_figures_on_every_set(bench: Path, made: tuple[Any, str, str]) -> None:
    found, _, _ = made
    assert (found["in"]["images"], [one["images"] for one in found["out"]]) == (30, [20, 20])
    assert len(found["rows"]) == UNSUPERVISED
    for row in found["rows"]:
        assert [one["source"] for one in row["sets"]] == [f"{bench}/noise.npz", f"{bench}/dark.npz"]
        assert not row["supervised"]
        assert row["images_per_core_second"] > 0
        assert row["network_calls"] == (2 * FIDELITIES["fast"].nodes if row["needs"] == "cascade" else 0)
        for one in row["sets"]:
            assert {"auroc", "aupr_out", "aupr_in", "fpr_at_95_tpr_out", "fpr_at_95_tpr_in"} < one.keys()
    best = max(row["sets"][0]["auroc"]["value"] for row in found["rows"])
    assert best > 0.95


def test_a_further_detector_has_a_row_at_its_own_settings(bench: Path, tmp_path: Path) -> None:
    shutil.copytree(bench, tmp_path / "bench")
    bench, made = tmp_path / "bench", []
    for detector, nodes, further in (("spectrum", 2, ()), ("pooled_alignment", 3, ("--further",))):
        options = ("--fit", f"{bench / 'smooth.npz'}[:60]", "--detector", detector, "--nodes", nodes, *further)
        code, _, error = invoke("calibrate", bench / "model", *options)
        assert code == 0, error
    cached = [document(bench, tmp_path, "--cache", tmp_path / "cache")["rows"] for _ in range(2)]
    for found in (document(bench, tmp_path)["rows"], *cached):
        assert [row["name"] for row in found[:2]] == [
            "calibrated detector (spectrum)",
            "calibrated detector (pooled_alignment)",
        ]
        assert [row["network_calls"] for row in found[:2]] == [4, 6]
        made.append([row["sets"] for row in found])
    assert made[0] == made[1] == made[2]
    judge = CascadeScorer.from_pretrained(bench / "model").detectors["pooled_alignment"]
    normal, odd = (np.load(bench / name)["images"].transpose(0, 3, 1, 2) for name in ("smooth.npz", "noise.npz"))
    scores = [[one.score for one in judge.score(images)] for images in (normal[60:], odd)]
    assert made[0][1][0]["auroc"]["value"] == ood_metrics(*map(np.array, scores)).to_dict()["auroc"]["value"]


def test_what_sees_activations_has_a_row_where_the_model_keeps_them(bench: Path, tmp_path: Path) -> None:
    shutil.copytree(bench, tmp_path / "bench")
    options = ("--fit", f"{bench / 'smooth.npz'}[:60]", "--detector", "neighbours", "--nodes", 2)
    code, _, error = invoke("calibrate", tmp_path / "bench/model", *options)
    assert code == 0, error
    names = {row["name"] for row in document(tmp_path / "bench", tmp_path)["rows"]}
    assert {row.name for row in ACTIVATION_ROWS} <= names
    assert len(names) == 1 + UNSUPERVISED + len(ACTIVATION_ROWS)


def test_it_says_what_it_was_made_with(bench: Path, tmp_path: Path) -> None:
    found = document(bench, tmp_path, "--limit", 15)
    made = found["made"]
    assert made["command"] == (
        f"pcdm benchmark {bench}/model --fit '{bench}/smooth.npz[:60]' --in '{bench}/smooth.npz[60:]' "
        f"--out {bench}/noise.npz --limit 15"
    )
    assert made["machine"]["threads"] == torch.get_num_threads()
    assert made["machine"]["packages"]["torch"]
    assert found["digest"] == CascadeScorer.from_pretrained(bench / "model").digest
    assert (found["fit"]["images"], found["in"]["images"], found["out"][0]["images"]) == (60, 15, 15)


@needs_pytorch_ood
def test_peers_with_a_classifier_are_told_to_be_supervised(bench: Path, tmp_path: Path) -> None:
    found = document(bench, tmp_path, "--classifier", bench / "classifier.safetensors")
    supervised = [row for row in found["rows"] if row["supervised"]]
    assert len(supervised) == 6
    assert {(row["needs"], row["network_calls"]) for row in supervised} == {("classifier", 1)}
    assert found["classifier"]["trained_on"] == "smooth.npz"
    assert 0 <= found["classifier"]["accuracy"] <= 1


def test_figures_are_the_same_again_and_from_the_cache(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = ("--cache", tmp_path / "cache")
    first, second = document(bench, tmp_path), document(bench, tmp_path, *cached)
    scored: list[int] = []
    plain = CascadeScorer.score

    def score(scorer: CascadeScorer, images: Any, *rest: Any) -> Any:
        scored.append(len(images))
        return plain(scorer, images, *rest)

    monkeypatch.setattr(CascadeScorer, "score", score)
    third = document(bench, tmp_path, *cached)
    assert set(scored) == {30}  # the time is taken on the first images of --in, all else was kept
    for row in (*first["rows"], *second["rows"], *third["rows"]):
        del row["images_per_core_second"]
    assert first["rows"] == second["rows"] == third["rows"]


def test_the_page_has_a_line_for_every_score(made: tuple[Any, str, str]) -> None:
    found, page, _ = made
    for row in found["rows"]:
        value = row["sets"][0]["auroc"]["value"]
        assert any(
            line.startswith(f"| {row['name']} | no |") and f"{value:.4f} [" in line for line in page.splitlines()
        )
    assert found["made"]["command"] in page


def test_the_table_goes_to_the_terminal_where_no_file_is_named(bench: Path) -> None:
    code, output, error = run(bench)
    assert code == 0, error
    assert output.startswith("# Detectors side by side")
    assert "| MSMA | svhn | 0.957 |" in output


def test_only_the_block_of_the_readme_is_renewed(made: tuple[Any, str, str]) -> None:
    _, _, readme = made
    before, _, rest = readme.partition("<!-- benchmark:start -->\n")
    block, _, after = rest.partition("\n<!-- benchmark:end -->")
    assert (before, after) == ("before\n", "\nafter\n")
    assert block.startswith("| score | labels | network calls | images/s |")
    assert "old" not in block


@pytest.mark.usefixtures("nothing_scored")
class TestRefusals:
    """What is wrong is told before anything is scored."""

    def test_a_readme_without_markers(self, bench: Path, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text("text")
        code, _, error = run(bench, "--readme", tmp_path / "README.md")
        assert code == 2
        assert "README.md: needs one line <!-- benchmark:start -->" in error

    def test_a_file_in_no_folder(self, bench: Path, tmp_path: Path) -> None:
        code, _, error = run(bench, "--json", tmp_path / "none" / "table.json")
        assert code == 2
        assert "table.json: no such folder to write to" in error

    def test_a_missing_set(self, bench: Path) -> None:
        code, _, error = run(bench, out=("noise.npz", "missing.npz"))
        assert code == 2
        assert "missing.npz: no such file" in error

    def test_a_set_given_twice(self, bench: Path) -> None:
        code, _, error = run(bench, out=("noise.npz", "noise.npz"))
        assert code == 2
        assert "noise.npz: given twice" in error

    def test_windows_that_overlap(self, bench: Path) -> None:
        code, _, error = run(bench, out=("smooth.npz[50:70]",))
        assert code == 2
        assert "share images, 10 of them: take windows that do not overlap" in error

    def test_a_classifier_of_another_size(self, bench: Path, tmp_path: Path) -> None:
        other = Classifier(CARD.model_copy(update={"image_shape": (3, 16, 16)}))
        save_classifier(other, tmp_path / "other.safetensors")
        code, _, error = run(bench, "--classifier", tmp_path / "other.safetensors")
        assert code == 2
        assert "the classifier takes images (3, 16, 16), the cascade (3, 8, 8)" in error


def test_a_calibrated_model_has_all_rows_and_its_own_detector_first(bench: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    shutil.copytree(bench, folder)
    code, _, error = invoke(
        "calibrate", folder / "model", "--fit", folder / "smooth.npz", "--detector", "spectrum", "--nodes", 1
    )
    assert code == 0, error
    names = [row["name"] for row in document(folder, tmp_path)["rows"]]
    assert names[0] == "calibrated detector (spectrum)"
    assert len(names) == UNSUPERVISED + 1
