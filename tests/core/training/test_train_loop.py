import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from tiny_runs import PICTURES, checkpoint, different, run_config

from pcdm_core.model import load_pretrained
from pcdm_core.training import CHECKPOINT, OptimizerConfig, Progress, load_config, make_accelerator, train
from pcdm_core.training.state import learning_rate_factor

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")


def test_a_resumed_run_is_bit_identical(tmp_path: Path) -> None:
    train(run_config(), PICTURES, tmp_path / "straight")
    train(run_config(), PICTURES, tmp_path / "parts", stop_after=3)
    torch.manual_seed(99)
    train(run_config(), PICTURES, tmp_path / "parts")
    straight, parts = checkpoint(tmp_path / "straight"), checkpoint(tmp_path / "parts")
    assert int(straight["step"]) == 6
    assert different(straight, parts) == []


def test_a_run_takes_checkpoints_as_often_as_it_was_told(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(progress: Progress) -> None:
        file = tmp_path / CHECKPOINT
        seen.append(int(checkpoint(tmp_path)["step"]) if file.exists() else 0)
        assert (tmp_path / "model").exists() == file.exists()
        assert progress.step == len(seen)

    train(run_config(checkpoint_every=2, steps=5), PICTURES, tmp_path, on_step=look)
    assert seen == [0, 2, 2, 4, 5]


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run_config(), PICTURES, tmp_path, stop_after=3)
    before = checkpoint(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            train(run_config(), PICTURES, tmp_path)
    assert different(before, checkpoint(tmp_path)) == []
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [CHECKPOINT]


def scalars(folder: Path) -> dict[str, list[int]]:
    """Steps at which each value was logged, as TensorBoard shows them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_scalars_are_logged_as_often_as_they_were_told(tmp_path: Path) -> None:
    train(run_config(log_every=2), PICTURES, tmp_path)
    tags = ["bits_per_dim/scale_1", "bits_per_dim/scale_2", "bits_per_dim/total", "images_per_second"]
    assert scalars(tmp_path) == {tag: [2, 4, 6] for tag in tags}


def test_a_step_that_is_taken_again_is_shown_once(tmp_path: Path) -> None:
    config = run_config(log_every=1)
    for part, steps in enumerate((3, 5, 6)):
        train(config, PICTURES, tmp_path, stop_after=steps)
        if steps == 3:
            shutil.copy(tmp_path / CHECKPOINT, tmp_path / "kept")
        else:
            shutil.copy(tmp_path / "kept", tmp_path / CHECKPOINT)
        # Files of one second are read in an order that depends on how many were written before.
        (file,) = (tmp_path / "tensorboard").glob("events.out*")
        file.rename(file.with_name(f"part{part}.tfevents"))
    assert scalars(tmp_path)["bits_per_dim/total"] == [1, 2, 3, 4, 5, 6]


def test_what_is_saved_is_the_average(tmp_path: Path) -> None:
    average = train(run_config(), PICTURES, tmp_path).state_dict()
    saved = load_pretrained(tmp_path / "model")[0].state_dict()
    assert all(torch.equal(saved[name], average[name]) for name in average)


def test_another_configuration_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    train(run_config(), PICTURES, tmp_path, stop_after=1)
    with pytest.raises(ValueError, match="written with another configuration"):
        train(run_config(seed=1), PICTURES, tmp_path)


def test_a_checkpoint_of_another_model_format_is_refused(tmp_path: Path) -> None:
    train(run_config(), PICTURES, tmp_path, stop_after=1)
    file = tmp_path / CHECKPOINT
    file.write_bytes(save(checkpoint(tmp_path) | {"format_version": torch.tensor(1)}))
    with pytest.raises(ValueError, match="weights of model format 1; this version trains format 2"):
        train(run_config(), PICTURES, tmp_path)


def test_a_cut_off_checkpoint_is_refused(tmp_path: Path) -> None:
    train(run_config(), PICTURES, tmp_path, stop_after=1)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="is not a checkpoint"):
        train(run_config(), PICTURES, tmp_path)


def test_loss_falls_on_constant_images(tmp_path: Path) -> None:
    seen: list[Progress] = []
    grey = np.full((8, 1, 8, 8), 40, np.uint8)
    config = run_config(1e-2, steps=60, batch_size=16, optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0))
    train(config, grey, tmp_path, on_step=seen.append)
    bits = [progress.bits_per_dim for progress in seen]
    assert np.mean(bits[-5:]) < 0.8 * np.mean(bits[:5])


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 1, 4, 4), (0, 1, 8, 8)])
def test_images_of_a_wrong_shape_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images: NDArray[np.uint8] = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match="expected uint8 images"):
        train(run_config(), images, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_at_its_last_checkpoint(tmp_path: Path) -> None:
    config = run_config(1e30, checkpoint_every=1, optimizer=OptimizerConfig(learning_rate=1e30, warmup_steps=0))
    with pytest.raises(FloatingPointError, match=r"not finite at step 2.*lower the learning rate"):
        train(config, PICTURES, tmp_path)
    saved = checkpoint(tmp_path)
    assert int(saved["step"]) == 1
    assert all(value.isfinite().all() for value in saved.values())


def test_a_batch_that_cannot_be_shared_equally_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(make_accelerator()), "num_processes", 3)
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 4 images"):
        train(run_config(), PICTURES, tmp_path)


def test_a_shipped_configuration_loads_by_name() -> None:
    assert load_config("cifar10-haar").cascade.scales == 3


def test_a_configuration_loads_by_path(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('data = "x"\nsteps = 7\n[cascade]\nimage_shape = [1, 8, 8]\nnetworks = [{}]\n')
    assert load_config(file).steps == 7


@pytest.mark.parametrize(
    ("text", "named"), [("colour = 1\n", "colour"), ("steps = 0\n", "steps"), ("steps = \n", "run.toml")]
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(ValueError, match=named):
        load_config(tmp_path / "run.toml")


def test_a_missing_configuration_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.*cifar10-haar"):
        load_config("nowhere")


def test_learning_rate_rises_stays_and_falls() -> None:
    config = OptimizerConfig(warmup_steps=4, decay_steps=10)
    factors = [learning_rate_factor(step, 30, config) for step in range(31)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(factors[4:21]) == {1.0}
    assert (np.diff(factors[20:]) < 0).all()
    assert factors[30] == pytest.approx(0)
