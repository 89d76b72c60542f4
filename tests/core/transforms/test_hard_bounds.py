"""The bound of images that no camera takes: finite, however few or many nodes it is computed with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hard_contents import SIDE, hard_images

from pcdm_core.model import Cascade, CascadeConfig, NetworkConfig
from pcdm_core.scoring import CascadeScorer, Fidelity, Score


def scores(transform: str, scales: int, fidelity: Fidelity, **options: Any) -> list[Score]:
    torch.manual_seed(1)
    networks = (NetworkConfig(channels=4, blocks=1, attention=False, patch=2),) * scales
    cascade = Cascade(CascadeConfig(image_shape=(1, SIDE, SIDE), transform=transform, networks=networks))
    images = torch.stack(list(hard_images().values()))[:, None]
    cascade.fit_variance(images)
    with torch.no_grad():
        for parameter in cascade.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return CascadeScorer(cascade, model_name="tiny", digest="0" * 64, **options).score(images.numpy(), fidelity)


def assert_finite(score: Score) -> None:
    assert np.isfinite([score.nats, *score.terms.values()]).all()
    assert np.isfinite(score.features).all()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 4), ("laplacian", 4), ("downsample", 2)])
def test_it_is_finite_with_every_transform(transform: str, scales: int, precision: str) -> None:
    for score in scores(transform, scales, Fidelity(nodes=3), precision=precision):
        assert_finite(score)


@pytest.mark.parametrize("method", ["bound", "certified"])
@pytest.mark.parametrize("nodes", [1, 2, 100])
def test_it_is_finite_at_few_and_many_nodes(nodes: int, method: str) -> None:
    fidelity = Fidelity.model_validate({"nodes": nodes, "method": method})
    for score in scores("haar", 2, fidelity):
        assert_finite(score)


@pytest.mark.parametrize("transform", ["haar", "laplacian"])
def test_the_density_by_the_flow_is_finite(transform: str) -> None:
    for score in scores(transform, 2, Fidelity(method="flow", nodes=8, tolerance=0.01)):
        assert_finite(score)
        assert score.time_error is not None
        assert np.isfinite(score.time_error)
