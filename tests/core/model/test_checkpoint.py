import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from tiny_cascades import random_images, tiny_cascade, tiny_config

from pcdm_core.model import Cascade, CheckpointError, load_pretrained, model_digest, save_pretrained


@pytest.fixture
def cascade() -> Cascade:
    return tiny_cascade(tiny_config("laplacian"))


@pytest.fixture
def folder(cascade: Cascade, tmp_path: Path) -> Path:
    save_pretrained(cascade, tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def flip_a_bit(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def test_round_trip_is_bit_identical(cascade: Cascade, folder: Path) -> None:
    loaded, _ = load_pretrained(folder)
    assert loaded.config == cascade.config
    saved, read = cascade.state_dict(), loaded.state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(saved[name], read[name]) for name in saved)


def test_a_loaded_cascade_gives_the_same_loss(cascade: Cascade, folder: Path) -> None:
    images = random_images(cascade.config, 4)
    losses = [
        c.training_loss(images, torch.Generator().manual_seed(0)).bound for c in (cascade, load_pretrained(folder)[0])
    ]
    assert torch.equal(*losses)


def test_a_loaded_cascade_is_in_evaluation_mode(folder: Path) -> None:
    assert not any(module.training for module in load_pretrained(folder)[0].modules())


def test_digest_survives_the_round_trip(folder: Path, tmp_path: Path) -> None:
    loaded, digest = load_pretrained(folder)
    assert save_pretrained(loaded, tmp_path / "again") == digest


def test_saving_twice_gives_equal_bytes(folder: Path, tmp_path: Path) -> None:
    save_pretrained(load_pretrained(folder)[0], tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_digest_depends_on_the_weights(cascade: Cascade, folder: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        cascade.schedule.logits[0, 0] += 1e-6
    assert save_pretrained(cascade, tmp_path / "other") != load_pretrained(folder)[1]


def test_digest_depends_on_the_configuration() -> None:
    assert model_digest(tiny_config(), b"weights") != model_digest(tiny_config(gamma_max=4.0), b"weights")


def test_other_files_in_the_folder_are_left_alone(cascade: Cascade, folder: Path) -> None:
    (folder / "README.md").write_text("a model card")
    save_pretrained(cascade, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_a_failed_save_leaves_the_old_model(cascade: Cascade, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, digest = load_pretrained(folder)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    with torch.no_grad():
        cascade.schedule.logits.add_(1)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        save_pretrained(cascade, folder)
    assert load_pretrained(folder)[1] == digest
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_a_save_cut_off_between_its_files_is_refused(
    cascade: Cascade, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def fail_on_config(source: Path, target: Path) -> None:
        if target.name == "config.json":
            raise KeyboardInterrupt
        replace(source, target)

    with torch.no_grad():
        cascade.schedule.logits.add_(1)
    monkeypatch.setattr(os, "replace", fail_on_config)
    with pytest.raises(KeyboardInterrupt):
        save_pretrained(cascade, folder)
    with pytest.raises(CheckpointError, match="does not belong to"):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        load_pretrained(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere is not a model folder"):
        load_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_one_flipped_bit_in_the_weights_is_refused(folder: Path, share: float) -> None:
    file = folder / "model.safetensors"
    flip_a_bit(file, int(share * file.stat().st_size))
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not belong to config\.json"):
        load_pretrained(folder)


def test_cut_off_weights_are_refused(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        load_pretrained(folder)


def test_a_changed_configuration_is_refused(folder: Path) -> None:
    cascade = json.loads((folder / "config.json").read_text())["cascade"]
    edit(folder, cascade=cascade | {"gamma_max": 4.0})
    with pytest.raises(CheckpointError, match="the digest is"):
        load_pretrained(folder)


@pytest.mark.parametrize("version", [1, 3, "2", None])
def test_another_format_version_is_refused(folder: Path, version: object) -> None:
    edit(folder, format_version=version)
    with pytest.raises(CheckpointError, match=f"format version {version!r}; this version reads 2"):
        load_pretrained(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\xff", b"gamma_max = 5"])
def test_a_configuration_that_is_not_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not JSON"):
        load_pretrained(folder)


@pytest.mark.parametrize("content", [b"[]", b"null", b"1"])
def test_a_configuration_that_is_no_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="format version None"):
        load_pretrained(folder)


def test_an_unknown_key_is_named(folder: Path) -> None:
    edit(folder, colour="red")
    with pytest.raises(CheckpointError, match="colour"):
        load_pretrained(folder)


def test_weights_of_another_architecture_are_refused(cascade: Cascade, folder: Path) -> None:
    wrong = save({"schedule.logits": torch.zeros(1)})
    (folder / "model.safetensors").write_bytes(wrong)
    edit(folder, digest=model_digest(cascade.config, wrong))
    with pytest.raises(CheckpointError, match="does not fit its configuration"):
        load_pretrained(folder)


def test_bytes_that_are_no_weights_are_refused(cascade: Cascade, folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"pickle?")
    edit(folder, digest=model_digest(cascade.config, b"pickle?"))
    with pytest.raises(CheckpointError, match="does not fit its configuration"):
        load_pretrained(folder)
