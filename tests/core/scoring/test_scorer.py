from collections import defaultdict
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tiny_scorers import Images, random_pictures, small_scorer

from pcdm_core.likelihood import Draw, Method, noise_levels
from pcdm_core.scoring import CascadeScorer, Execution, Fidelity, Score, Unit, UnitResult
from pcdm_core.scoring.codecs import codec_bits_per_dim

Noise = Literal["shared", "keyed"]
FAST = Fidelity(nodes=3)


def run_by_bucket(scorer: CascadeScorer, units: list[Unit]) -> list[UnitResult]:
    buckets: dict[Any, list[int]] = defaultdict(list)
    for position, unit in enumerate(units):
        buckets[unit.bucket].append(position)
    results: dict[int, UnitResult] = {}
    for positions in buckets.values():
        results |= zip(positions, scorer.run([units[p] for p in positions]), strict=True)
    return [results[position] for position in range(len(units))]


def assert_same(one: Score, other: Score) -> None:
    np.testing.assert_allclose(one.features, other.features, atol=1e-4, rtol=0)
    assert one.bits_per_dim == pytest.approx(other.bits_per_dim, abs=1e-6, rel=0)


def mates_of(kind: str, count: int) -> Images:
    if kind == "noise":
        return random_pictures(count, seed=77)
    if kind == "black":
        return np.zeros((count, 3, 8, 8), np.uint8)
    checkerboard = 255 * (np.indices((8, 8)).sum(0) % 2)
    return np.broadcast_to(checkerboard, (count, 3, 8, 8)).astype(np.uint8)


# The same score among any batch-mates


@pytest.mark.parametrize("kind", ["noise", "black", "checkerboard"])
@pytest.mark.parametrize("noise", ["shared", "keyed"])
@pytest.mark.parametrize("transform", ["haar", "laplacian"])
def test_score_does_not_depend_on_batch_mates(transform: str, noise: Noise, kind: str) -> None:
    scorer, fidelity = small_scorer(transform), Fidelity(nodes=3, noise=noise)
    image = random_pictures(1, seed=3)
    alone = scorer.score(image, fidelity)[0]
    mates = mates_of(kind, 6)
    among = scorer.score(np.concatenate((mates[:4], image, mates[4:])), fidelity)
    assert_same(among[4], alone)
    assert abs(among[0].bits_per_dim - alone.bits_per_dim) > 1e-3


@pytest.mark.parametrize("size", [1, 2, 7, 32])
@pytest.mark.parametrize("noise", ["shared", "keyed"])
def test_score_does_not_depend_on_the_batch_size(noise: Noise, size: int) -> None:
    fidelity, images = Fidelity(nodes=2, noise=noise), random_pictures(3, seed=4)
    for one, other in zip(
        small_scorer(batch_size=size).score(images, fidelity),
        small_scorer(batch_size=128).score(images, fidelity),
        strict=True,
    ):
        assert_same(one, other)


def test_units_of_one_bucket_run_in_any_order() -> None:
    scorer = small_scorer()
    units = [unit for unit in scorer.plan(random_pictures(4), FAST) if unit.scale == 2]
    forward, backward = scorer.run(units), scorer.run(units[::-1])
    for one, other in zip(forward, reversed(backward), strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4)


def test_plans_of_different_fidelity_share_a_batch() -> None:
    scorer = small_scorer()
    plans = [
        [unit for unit in scorer.plan(random_pictures(1, seed=n), Fidelity(nodes=n, seed=n)) if unit.scale == 1]
        for n in (2, 5)
    ]
    together = scorer.run(plans[0] + plans[1])
    apart = scorer.run(plans[0]) + scorer.run(plans[1])
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4)


# Seeds and noise


@pytest.mark.parametrize("noise", ["shared", "keyed"])
def test_the_same_seed_gives_the_same_score(noise: Noise) -> None:
    fidelity, images = Fidelity(nodes=3, seed=5, noise=noise), random_pictures(2)
    one, other = (small_scorer().score(images, fidelity)[1] for _ in range(2))
    assert one.bits_per_dim == other.bits_per_dim
    assert np.array_equal(one.features, other.features)


@pytest.mark.parametrize("noise", ["shared", "keyed"])
def test_another_seed_gives_another_score(noise: Noise) -> None:
    scorer, images = small_scorer(), random_pictures(1)
    one, other = (scorer.score(images, Fidelity(nodes=3, seed=seed, noise=noise))[0] for seed in (0, 1))
    assert abs(one.bits_per_dim - other.bits_per_dim) > 1e-4
    assert not np.allclose(one.features, other.features, atol=1e-3)


def noise_of(scorer: CascadeScorer, images: Images, noise: Noise) -> list[Any]:
    units = [unit for unit in scorer.plan(images, Fidelity(nodes=1, noise=noise)) if unit.scale == 1]
    return [row.numpy() for row in scorer.noise(units, [unit.node for unit in units])[0]]


def test_shared_noise_is_the_same_for_all_images() -> None:
    one, other = noise_of(small_scorer(), random_pictures(2), "shared")
    assert np.array_equal(one, other)


def test_keyed_noise_depends_on_the_content() -> None:
    images = random_pictures(2)
    one, other, copy = noise_of(small_scorer(), np.concatenate((images, images[:1])), "keyed")
    assert not np.array_equal(one, other)
    assert np.array_equal(one, copy)


def test_keyed_noise_of_one_pixel_less_is_uncorrelated() -> None:
    image = random_pictures(1)
    changed = image.copy()
    changed[0, 0, 0, 0] ^= 1
    one, other = noise_of(small_scorer(), np.concatenate((image, changed)), "keyed")
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.5


def test_noise_differs_between_nodes_replicates_and_the_sampled_coarse_image() -> None:
    scorer = small_scorer()
    plan = scorer.plan(random_pictures(1), Fidelity(nodes=2, replicates=2))
    units = [unit for unit in plan if unit.scale == 1]
    uses: list[list[Draw]] = [[unit.node for unit in units], ["z0"] * len(units)]
    rows = [scorer.noise(units, use)[0].flatten(1).numpy() for use in uses]
    distinct = {row.tobytes() for kind in rows for row in kind}
    assert len(distinct) == 4 + 2  # nodes x replicates, and one z_0 for each replicate


# The control variate


def test_the_control_variate_lowers_the_spread_over_seeds() -> None:
    scorer, image = small_scorer(), random_pictures(1)
    transform = scorer.cascade.transform
    with_it, without = [], []
    for seed in range(40):
        units = scorer.plan(image, Fidelity(nodes=4, seed=seed))
        total, raw = 0.0, 0.0
        for unit, result in zip(units, run_by_bucket(scorer, units), strict=True):
            if unit.scale == 0:
                total, raw = total + result.values.sum(), raw + result.values.sum()
                continue
            weights = noise_levels(scorer.cascade.schedule, unit.scale, "bound", 4).weights
            bands = len(transform.bands(unit.scale))
            raw += 0.5 * weights[unit.node] * result.values[1 : 1 + bands].sum()
            total += result.values[0]
        with_it.append(total)
        without.append(raw)
    assert np.std(with_it) < 0.7 * np.std(without)
    # It has mean zero: both are estimates of the same bound.
    difference = np.array(with_it) - np.array(without)
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(40)


# The seam


@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 3), ("laplacian", 2), ("downsample", 2)])
def test_score_composes_plan_run_and_combine(transform: str, scales: int) -> None:
    scorer, images = small_scorer(transform, scales), random_pictures(3)
    units = scorer.plan(images, FAST)
    for one, other in zip(scorer.combine(units, run_by_bucket(scorer, units)), scorer.score(images, FAST), strict=True):
        assert_same(one, other)
        assert np.isfinite(one.bits_per_dim)


def test_results_combine_in_any_order() -> None:
    scorer = small_scorer()
    units = scorer.plan(random_pictures(3), FAST)
    results = run_by_bucket(scorer, units)
    order = np.random.default_rng(0).permutation(len(units))
    straight = scorer.combine(units, results)
    shuffled = scorer.combine([units[i] for i in order], [results[i] for i in order])
    for one, other in zip(straight, shuffled, strict=True):
        assert one.bits_per_dim == pytest.approx(other.bits_per_dim, abs=1e-9)
        assert np.array_equal(one.features, other.features)


def test_scores_keep_the_order_of_the_images() -> None:
    scorer, images = small_scorer(batch_size=2), random_pictures(5)
    straight = [score.bits_per_dim for score in scorer.score(images, FAST)]
    backward = [score.bits_per_dim for score in scorer.score(images[::-1], FAST)]
    assert straight == pytest.approx(backward[::-1], abs=1e-6)
    assert len(set(straight)) == 5


def test_units_name_their_bucket_and_cost() -> None:
    units = small_scorer().plan(random_pictures(1), FAST)
    assert len({unit.bucket for unit in units}) == 2
    assert all(unit.cost > 0 for unit in units)
    costs = {unit.scale: unit.cost for unit in units}
    assert costs[0] < costs[1] < costs[2]


def test_terms_without_network_share_a_batch_with_those_of_one() -> None:
    scorer = small_scorer()
    units = [unit for unit in scorer.plan(random_pictures(6), FAST) if unit.scale < 2]
    together = scorer.run(units)
    for scale in (0, 1):
        own = [position for position, unit in enumerate(units) if unit.scale == scale]
        for position, result in zip(own, scorer.run([units[position] for position in own]), strict=True):
            np.testing.assert_allclose(together[position].values, result.values, rtol=1e-4)


def test_preparing_runs_every_network_at_the_largest_batch() -> None:
    scorer = small_scorer()
    ran: list[int] = []
    for scale, predictor in enumerate(scorer.cascade.predictors, start=1):
        predictor.register_forward_pre_hook(lambda _, inputs, scale=scale: ran.extend([scale] * len(inputs[0])))
    scorer.prepare(Execution(largest_batch=9))
    assert sorted(ran) == [1] * 9 + [2] * 9


def test_preparing_leaves_as_many_threads_as_are_allowed() -> None:
    before = torch.get_num_threads()
    try:
        small_scorer().prepare(Execution(largest_batch=1, threads=before + 2))
        assert torch.get_num_threads() == before + 2
        small_scorer().prepare(Execution(largest_batch=1))
        assert torch.get_num_threads() == before + 2
    finally:
        torch.set_num_threads(before)


def test_a_largest_batch_without_memory_is_named() -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("none left")

    scorer = small_scorer()
    scorer.cascade.predictors[1].register_forward_pre_hook(fail)
    with pytest.raises(MemoryError, match=r"no memory for a batch of 9 on cpu: allow fewer \(none left\)"):
        scorer.prepare(Execution(largest_batch=9))


def test_several_buckets_in_one_run_are_refused() -> None:
    scorer = small_scorer()
    with pytest.raises(ValueError, match="one bucket"):
        scorer.run(scorer.plan(random_pictures(1), FAST))


def test_units_of_another_model_are_refused() -> None:
    units = [unit for unit in small_scorer(digest="1" * 64).plan(random_pictures(1), FAST) if unit.scale == 1]
    with pytest.raises(ValueError, match="of this model"):
        small_scorer().run(units)


def test_nothing_to_run_gives_nothing() -> None:
    assert small_scorer().run([]) == []


def test_no_images_give_no_scores() -> None:
    assert small_scorer().score(random_pictures(0), FAST) == []


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8])
def test_images_of_another_type_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match=f"expected uint8 .* got {np.dtype(dtype).name}"):
        small_scorer().score(random_pictures(1).astype(dtype), FAST)


@pytest.mark.parametrize("shape", [(1, 3, 4, 8), (1, 1, 8, 8), (3, 8, 8), (1, 8, 8, 3)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected uint8 images"):
        small_scorer().score(np.zeros(shape, np.uint8), FAST)


def test_progress_counts_images() -> None:
    seen: list[int] = []
    small_scorer(batch_size=2).score(random_pictures(5), FAST, progress=seen.append)
    assert seen == [2, 4, 5]


# The answer


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_terms_sum_to_bits_per_dim(scales: int) -> None:
    score = small_scorer(scales=scales).score(random_pictures(1), Fidelity(nodes=3, replicates=2))[0]
    assert len(score.terms) == 1 + 2 * scales
    assert sum(score.terms.values()) == pytest.approx(score.bits_per_dim, abs=1e-9)


def test_terms_without_network_are_not_negative() -> None:
    terms = small_scorer().score(random_pictures(1), FAST)[0].terms
    assert all(terms[name] >= 0 for name in ("reconstruction", "prior_scale_1", "prior_scale_2"))


def test_nats_and_bits_agree() -> None:
    score = small_scorer().score(random_pictures(1), FAST)[0]
    assert score.bits_per_dim == pytest.approx(score.nats / (192 * np.log(2)))


def test_network_calls_are_nodes_times_scales_times_replicates() -> None:
    scorer = small_scorer(scales=3)
    called: list[int] = []
    for predictor in scorer.cascade.predictors:
        predictor.register_forward_hook(lambda _module, inputs, _output: called.append(len(inputs[0])))
    score = scorer.score(random_pictures(1), Fidelity(nodes=4, replicates=2))[0]
    assert score.network_calls == 4 * 3 * 2 == sum(called)


def test_one_replicate_has_no_standard_error() -> None:
    assert small_scorer().score(random_pictures(1), FAST)[0].stderr is None


def test_standard_error_comes_from_replicates() -> None:
    score = small_scorer().score(random_pictures(1), Fidelity(nodes=3, replicates=3))[0]
    assert score.stderr is not None
    assert score.stderr > 0


def test_standard_error_tells_the_spread_over_seeds() -> None:
    scorer, image = small_scorer(), random_pictures(1)
    scores = [scorer.score(image, Fidelity(nodes=3, replicates=4, seed=seed))[0] for seed in range(8)]
    spread = np.std([score.bits_per_dim for score in scores], ddof=1)
    told = np.sqrt(np.mean([(score.stderr or 0.0) ** 2 for score in scores]))
    assert 0.5 < told / spread < 2


def test_features_are_errors_and_norms_of_each_band_and_node() -> None:
    scorer = small_scorer()
    score, layout = scorer.score(random_pictures(1), FAST)[0], scorer.layout(FAST)
    spectrum = layout.select(score.features, ("error", "norm"))
    assert spectrum.shape == (3 * 2 * (1 + 3),)  # nodes x (error, norm) x subbands


@pytest.mark.parametrize(("transform", "scales"), [("identity", 1), ("haar", 3), ("laplacian", 2)])
@pytest.mark.parametrize("method", ["bound", "certified"])
def test_columns_are_what_their_names_say(transform: str, scales: int, method: Method) -> None:
    scorer, image = small_scorer(transform, scales), random_pictures(1)
    fidelity = Fidelity(nodes=2, method=method)
    score, layout = scorer.score(image, fidelity)[0], scorer.layout(fidelity)
    assert score.features.shape == (len(layout),)
    named = dict(zip(layout.names, score.features.tolist(), strict=True))
    assert named["bits_per_dim"] == score.bits_per_dim
    assert {name: named[name] for name in score.terms} == score.terms
    assert [named["webp_bits_per_dim"], named["png_bits_per_dim"]] == codec_bits_per_dim(image[0]).tolist()


def test_columns_of_the_spectrum_are_of_their_scale_node_and_subband() -> None:
    scorer, image, node = small_scorer(), random_pictures(1), 1
    units = [unit for unit in scorer.plan(image, FAST) if (unit.scale, unit.node) == (2, node)]
    latents = scorer.latents(units)
    with torch.inference_mode():
        prediction = scorer.predict(latents, units)
    detail = prediction.predicted_noise[0].double().view(3, -1)
    named = dict(zip(scorer.layout(FAST).names, scorer.score(image, FAST)[0].features.tolist(), strict=True))
    for band, coefficients in enumerate(detail):
        expected = float(coefficients.square().sum().log())
        assert named[f"norm_scale_2_node_{node}_band_{band}"] == pytest.approx(expected, abs=1e-4)


def test_without_calibration_there_is_no_verdict() -> None:
    score = small_scorer().score(random_pictures(1), FAST)[0]
    assert (score.score, score.p_value, score.is_ood) == (None, None, None)


def test_bfloat16_scores_nearly_the_same() -> None:
    image = random_pictures(1)
    exact, fast = (small_scorer(precision=p).score(image, FAST)[0].bits_per_dim for p in ("float32", "bfloat16"))
    assert exact != fast
    assert exact == pytest.approx(fast, rel=0.02)
