from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_benches import CARD, smooth_images, tiny_classifier

from pcdm_core.benchmark import load_classifier, save_classifier


def pictures(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.ascontiguousarray(smooth_images(count, 0).transpose(0, 3, 1, 2))


def test_a_saved_classifier_says_the_same(tmp_path: Path) -> None:
    classifier, images = tiny_classifier(), pictures(5)
    save_classifier(classifier, tmp_path / "c.safetensors")
    loaded = load_classifier(tmp_path / "c.safetensors")
    assert loaded.card == CARD
    assert len(loaded.digest) == 64
    assert not loaded.training
    assert torch.equal(loaded.outputs(images).logits, classifier.outputs(images).logits)


def test_logits_are_those_of_the_features() -> None:
    classifier, images = tiny_classifier(), pictures(5)
    outputs = classifier.outputs(images, batch_size=2)
    assert outputs.features.shape == (5, 8)
    torch.testing.assert_close(outputs.logits, classifier.head(outputs.features))
    torch.testing.assert_close(outputs.logits, classifier(torch.from_numpy(images)), atol=1e-5, rtol=1e-4)


def test_a_file_of_other_tensors_is_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x\.safetensors: no classifier's file; benchmarks/classifier\.py makes one"):
        load_classifier(tmp_path / "x.safetensors")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_classifier(tiny_classifier(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"c\.safetensors: not a readable classifier"):
        load_classifier(path)


def test_a_card_that_does_not_fit_the_weights_is_refused(tmp_path: Path) -> None:
    classifier = tiny_classifier()
    classifier.card = CARD.model_copy(update={"classes": 4})
    save_classifier(classifier, tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match=r"c\.safetensors: not a readable classifier"):
        load_classifier(tmp_path / "c.safetensors")
