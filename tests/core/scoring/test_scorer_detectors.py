"""Several detectors of one model: each judges as if it were the only one."""

import shutil
from pathlib import Path

import pytest
from tiny_scorers import random_pictures, small_cascade

from pcdm_core.detection import Calibration, CalibrationFileError, CalibrationMismatchError, detector_named
from pcdm_core.model import save_pretrained
from pcdm_core.scoring import CascadeScorer, Fidelity, calibration_file

FIDELITIES = {
    "spectrum": Fidelity(nodes=2),
    "complexity": Fidelity(nodes=3),
    "middle": Fidelity(nodes=2, activations=True),
}
IMAGES = random_pictures(3, seed=2)


def calibrate(scorer: CascadeScorer, name: str) -> Calibration:
    fidelity = FIDELITIES[name]
    detector = detector_named(name, scorer.layout(fidelity))
    seen = scorer.findings(random_pictures(40, seed=1), fidelity).seen_by(detector)
    return Calibration.fit(seen[:20], seen[20:], identity=scorer.identity(fidelity, name), detector=detector)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a default detector, and two further ones."""
    folder = tmp_path_factory.mktemp("made")
    save_pretrained(small_cascade(), folder)
    bare = CascadeScorer.from_pretrained(folder)
    for name in FIDELITIES:
        file = calibration_file(folder, None if name == "spectrum" else name)
        file.parent.mkdir(exist_ok=True)
        calibrate(bare, name).save(file)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("name", FIDELITIES)
def test_each_judges_as_if_it_were_the_default(folder: Path, name: str, complete: bool) -> None:
    several = CascadeScorer.from_pretrained(folder, complete=complete).detectors[name]
    own = calibration_file(folder, name).read_bytes() if name != "spectrum" else calibration_file(folder).read_bytes()
    shutil.rmtree(folder / "calibrations")
    calibration_file(folder).write_bytes(own)
    alone = CascadeScorer.from_pretrained(folder, complete=complete)
    assert several.fidelity == alone.fidelity == FIDELITIES[name]
    for one, other in zip(several.score(IMAGES), alone.score(IMAGES), strict=True):
        assert (one.score, one.p_value, one.bits_per_dim) == (other.score, other.p_value, other.bits_per_dim)


def test_the_default_is_the_first_and_the_networks_are_there_once(folder: Path) -> None:
    scorer = CascadeScorer.from_pretrained(folder)
    assert list(scorer.detectors) == ["spectrum", "complexity", "middle"]
    assert scorer.detectors["spectrum"] is scorer
    assert all(one.cascade is scorer.cascade for one in scorer.detectors.values())


def test_units_of_one_are_run_by_another(folder: Path) -> None:
    scorer = CascadeScorer.from_pretrained(folder)
    for judge in scorer.detectors.values():
        units = judge.plan(IMAGES, judge.fidelity)
        results = [scorer.run([unit])[0] for unit in units]
        expected = [one.p_value for one in judge.score(IMAGES)]
        assert [one.p_value for one in judge.combine(units, results)] == expected


def test_a_further_one_made_for_other_weights_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    save_pretrained(small_cascade("laplacian"), tmp_path / "other")
    other = CascadeScorer.from_pretrained(tmp_path / "other")
    calibrate(other, "complexity").save(calibration_file(folder, "complexity"))
    with pytest.raises(
        CalibrationMismatchError, match="of the detector complexity was made for something else: model_d"
    ):
        CascadeScorer.from_pretrained(folder)


def test_a_file_is_called_as_its_detector(folder: Path) -> None:
    calibration_file(folder, "middle").rename(calibration_file(folder, "forest"))
    with pytest.raises(CalibrationFileError, match=r"forest\.json is of the detector middle"):
        CascadeScorer.from_pretrained(folder)


def test_a_half_written_file_is_refused_by_name(folder: Path) -> None:
    file = calibration_file(folder, "middle")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CalibrationFileError, match=r"calibration file .*calibrations/middle\.json: "):
        CascadeScorer.from_pretrained(folder)


def test_no_detector_is_there_twice(folder: Path) -> None:
    shutil.copy(calibration_file(folder), calibration_file(folder, "spectrum"))
    with pytest.raises(CalibrationFileError, match=r"spectrum\.json: .*calibration\.json has that detector already"):
        CascadeScorer.from_pretrained(folder)


def test_further_ones_without_a_default_are_refused(folder: Path) -> None:
    calibration_file(folder).unlink()
    with pytest.raises(CalibrationFileError, match=r"calibration\.json is missing, beside it there is .*complexity"):
        CascadeScorer.from_pretrained(folder)
