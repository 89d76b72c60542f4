from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_scorers import Images, random_pictures, small_scorer

from pcdm_core.detection import SpectrumDetector
from pcdm_core.scoring import CascadeScorer, Fidelity, Findings, FindingsCache

FAST = Fidelity(nodes=2)


def assert_same_bits(one: Findings, other: Findings) -> None:
    assert one.layout == other.layout
    np.testing.assert_array_equal(one.features, other.features)


@pytest.fixture(scope="module")
def scorer() -> CascadeScorer:
    return small_scorer()


@pytest.fixture
def counted(scorer: CascadeScorer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the blocks that were scored."""
    sizes: list[int] = []
    plain = scorer.score

    def score(images: Images, fidelity: Fidelity) -> Any:
        sizes.append(len(images))
        return plain(images, fidelity)

    monkeypatch.setattr(scorer, "score", score)
    return sizes


def entry(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_findings_are_those_of_the_scores(scorer: CascadeScorer) -> None:
    scores = scorer.score(random_pictures(3), FAST)
    found = Findings.of(scores, scorer.layout(FAST))
    assert found.bits_per_dim.tolist() == [score.bits_per_dim for score in scores]
    assert {name: values[1] for name, values in found.terms.items()} == scores[1].terms
    assert np.array_equal(found.features[2], scores[2].features)
    spectrum = [name.startswith(("error_", "norm_")) for name in found.layout.names]
    assert sum(spectrum) == 16
    assert np.array_equal(found.seen_by(SpectrumDetector())[2], scores[2].features[spectrum])


def test_joined_findings_keep_the_order(scorer: CascadeScorer) -> None:
    found = Findings.of(scorer.score(random_pictures(3), FAST), scorer.layout(FAST))
    parts = [Findings(found.layout, found.features[window]) for window in (slice(0, 1), slice(1, 3))]
    assert_same_bits(Findings.join(parts), found)


def test_a_block_is_scored_once_and_comes_back_bit_for_bit(
    scorer: CascadeScorer, counted: list[int], tmp_path: Path
) -> None:
    images = random_pictures(3)
    first = FindingsCache(tmp_path, scorer, FAST).findings(images)
    again = FindingsCache(tmp_path, scorer, FAST).findings(images)
    assert counted == [3]
    assert_same_bits(again, first)
    assert_same_bits(first, Findings.of(scorer.score(images, FAST), scorer.layout(FAST)))


def test_an_entry_is_for_these_images_together(scorer: CascadeScorer, counted: list[int], tmp_path: Path) -> None:
    cache, images = FindingsCache(tmp_path, scorer, FAST), random_pictures(3)
    for block in (images, images[:2], images[::-1], 255 - images):
        cache.findings(block)
    assert counted == [3, 2, 3, 3]


@pytest.mark.parametrize(
    "change", ["fidelity", "digest", "precision", "batch size", "preprocessing", "threads", "codecs"]
)
def test_an_entry_is_for_one_way_of_scoring(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_pictures(1)
    FindingsCache(tmp_path, small_scorer(), FAST).findings(images)
    options: dict[str, dict[str, Any]] = {
        "digest": {"digest": "1" * 64},
        "precision": {"precision": "bfloat16"},
        "batch size": {"batch_size": 7},
    }
    other = small_scorer(**options.get(change, {}))
    if change == "preprocessing":
        other.preprocessing = other.preprocessing.model_copy(update={"version": 2})
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 31)
    if change == "codecs":
        monkeypatch.setattr(PIL, "__version__", "0.1")
    FindingsCache(tmp_path, other, Fidelity(nodes=2, seed=1) if change == "fidelity" else FAST).findings(images)
    assert len(list(tmp_path.iterdir())) == 2


def damaged(content: bytes, place: float, kind: str) -> bytes:
    position = int(place * (len(content) - 1))
    if kind == "cut":
        return content[:position]
    flipped = bytes([content[position] ^ 0x10])
    return content[:position] + flipped + content[position + 1 :]


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1), st.sampled_from(["cut", "flip"]))
def test_a_damaged_entry_is_scored_again(scorer: CascadeScorer, tmp_path: Path, place: float, kind: str) -> None:
    images = random_pictures(1)
    whole = FindingsCache(tmp_path, scorer, FAST).findings(images)
    content = entry(tmp_path).read_bytes()
    entry(tmp_path).write_bytes(damaged(content, place, kind))
    assert_same_bits(FindingsCache(tmp_path, scorer, FAST).findings(images), whole)
    assert entry(tmp_path).read_bytes() == content


def test_damage_is_told(scorer: CascadeScorer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache, images = FindingsCache(tmp_path, scorer, FAST), random_pictures(1)
    cache.findings(images)
    entry(tmp_path).write_bytes(b"")
    cache.findings(images)
    assert f"{entry(tmp_path)} is damaged" in caplog.text


def test_an_entry_under_the_name_of_another_is_scored_again(scorer: CascadeScorer, tmp_path: Path) -> None:
    one, other = random_pictures(1, seed=1), random_pictures(1, seed=2)
    expected = FindingsCache(tmp_path / "there", scorer, FAST).findings(one)
    FindingsCache(tmp_path / "here", scorer, FAST).findings(other)
    entry(tmp_path / "here").rename(tmp_path / "here" / entry(tmp_path / "there").name)
    assert_same_bits(FindingsCache(tmp_path / "here", scorer, FAST).findings(one), expected)
