"""What U-Nets have in their middle, as columns of an evaluation."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_scorers import random_pictures, small_scorer

from pcdm_core.detection import BitsPerDimDetector, EnsembleDetector, MiddleDetector
from pcdm_core.scoring import CascadeScorer, Fidelity, with_activations

PLAIN = Fidelity(nodes=6)
LOOKED = Fidelity(nodes=6, activations=True)


@pytest.fixture(scope="module")
def scorer() -> CascadeScorer:
    return small_scorer()


def test_all_other_columns_keep_every_bit(scorer: CascadeScorer) -> None:
    images = random_pictures(3)
    plain, looked = scorer.layout(PLAIN), scorer.layout(LOOKED)
    assert looked.names[: len(plain)] == plain.names
    for one, other in zip(scorer.score(images, PLAIN), scorer.score(images, LOOKED), strict=True):
        np.testing.assert_array_equal(other.features[: len(plain)], one.features)
        assert other.features.shape == (len(looked),)
        assert (other.bits_per_dim, other.terms, other.network_calls) == (
            one.bits_per_dim,
            one.terms,
            one.network_calls,
        )


def test_columns_are_mean_and_log_deviation_of_the_channels_averaged_over_noise_nodes(scorer: CascadeScorer) -> None:
    image, scale = random_pictures(1), 2
    units = [unit for unit in scorer.plan(image, LOOKED) if unit.scale == scale]
    outputs: list[torch.Tensor] = []
    last = scorer.cascade.predictor(scale).unet.middle2  # type: ignore[attr-defined]
    handle = last.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.inference_mode():
        scorer.predict(scorer.latents(units), units)
    handle.remove()
    middle = outputs[0].double().flatten(2)
    assert len(middle) == LOOKED.nodes
    features, layout = scorer.score(image, LOOKED)[0].features, scorer.layout(LOOKED)
    named = dict(zip(layout.names, features.tolist(), strict=True))
    means, deviations = middle.mean(2).mean(0), (middle.std(2, correction=0) + 1e-3).log().mean(0)
    for channel, (mean, deviation) in enumerate(zip(means.tolist(), deviations.tolist(), strict=True)):
        assert named[f"middle_mean_scale_{scale}_channel_{channel}"] == pytest.approx(mean, abs=1e-4)
        assert named[f"middle_std_scale_{scale}_channel_{channel}"] == pytest.approx(deviation, abs=1e-3)


def test_repetitions_are_averaged(scorer: CascadeScorer) -> None:
    image, layout = random_pictures(1), scorer.layout(LOOKED)

    def found(**changes: Any) -> Any:
        return layout.select(scorer.score(image, LOOKED.model_copy(update=changes))[0].features, ("middle_mean",))

    one, both = found(), found(replicates=2)
    assert both.shape == one.shape
    assert 0 < np.abs(both - one).max() < np.abs(one).max()


def test_the_average_is_that_of_every_repetition(scorer: CascadeScorer) -> None:
    twice = LOOKED.model_copy(update={"replicates": 2})
    units = [unit for unit in scorer.plan(random_pictures(1), twice) if unit.scale > 0]
    middles: dict[tuple[int, int], list[Any]] = {}
    for unit in units:
        [result] = scorer.run([unit])
        bands = len(scorer.cascade.transform.bands(unit.scale))
        middles.setdefault((unit.scale, unit.node), []).append(result.values[1 + (2 + 4) * bands :])
    means, deviations = [], []
    for scale in (1, 2):
        found = np.stack([np.mean(values, axis=0) for (own, _), values in sorted(middles.items()) if own == scale])
        mean, deviation = np.split(found, 2, axis=1)
        means.append(mean.mean(axis=0))
        deviations.append(np.log(deviation + 1e-3).mean(axis=0))
    features, layout = scorer.score(random_pictures(1), twice)[0].features, scorer.layout(twice)
    for kind, expected in (("middle_mean", means), ("middle_std", deviations)):
        found = layout.select(features, (kind,))  # type: ignore[arg-type]
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-4, atol=1e-5)


def test_units_with_and_without_share_no_batch(scorer: CascadeScorer) -> None:
    plain, looked = ({unit.bucket for unit in scorer.plan(random_pictures(1), f)} for f in (PLAIN, LOOKED))
    assert not plain & looked


def test_settings_without_activations_are_those_from_before_there_were_any() -> None:
    assert "activations" not in PLAIN.settings()
    assert LOOKED.settings()["activations"] is True
    assert Fidelity.model_validate(LOOKED.settings()) == LOOKED


def test_the_flow_has_no_activations() -> None:
    with pytest.raises(ValidationError, match="activations: the flow has none"):
        Fidelity(method="flow", activations=True)


def test_a_predictor_without_a_u_net_is_told() -> None:
    scorer = small_scorer()
    scorer.cascade.predictors[0] = torch.nn.Identity()
    z = torch.zeros(1, *scorer.cascade.transform.shape(1))
    with pytest.raises(ValueError, match="activations: a Identity has no U-Net"):
        scorer.cascade.observed(1, z, torch.zeros(1), None)


def test_activations_are_kept_where_a_detector_wants_them() -> None:
    assert not with_activations(LOOKED, BitsPerDimDetector()).activations
    assert with_activations(PLAIN, BitsPerDimDetector(), MiddleDetector()) == LOOKED
    assert with_activations(PLAIN, EnsembleDetector(members=("bits_per_dim", "middle"))) == LOOKED
