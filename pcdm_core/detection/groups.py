"""Several images judged together: all of them in-distribution, or all of them not.

The score of a group is the mean score of its images. A group is far easier to judge than an image: what the group's
images have in common adds up, what they do not averages out (Nalisnick, Matsukawa, Teh, Lakshminarayanan, "Detecting
out-of-distribution inputs to deep generative models using typicality", 2019).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pcdm_core.detection._checks import finite_vector
from pcdm_core.detection.conformal import conformal_p_values

__all__ = ["group_p_values", "group_scores"]


def group_scores(scores: ArrayLike, size: int, *, seed: int = 0) -> NDArray[np.float64]:
    """Mean scores of groups that share no image, ``[N // size]``; images that fill no group are left out.

    The groups are drawn at random: neighbours in a data set may have more in common than their distribution.

    Args:
        scores: scores of single images, ``[N]``.
        size: images in a group, at least 1.
        seed: of the grouping; the same seed gives the same groups.

    Raises:
        ValueError: `scores` are empty, not one-dimensional or not finite, or `size` is below 1.
    """
    single = finite_vector(scores, "scores")
    _check_size(size)
    shuffled = np.random.default_rng(seed).permutation(single)
    return _means(shuffled[: single.size // size * size].reshape(-1, size))


def group_p_values(
    calibration_scores: ArrayLike,
    scores_of_groups: ArrayLike,
    size: int,
    *,
    draws: int | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Conformal p-values of groups, from the calibration scores of single images.

    Without `draws` the calibration groups share no image, and the p-values are **exact**: if the images of a new group
    and the n calibration images are exchangeable, ``P(p <= alpha) <= alpha``. But there are only ``n // size`` groups,
    and no p-value below ``1 / (n // size + 1)``.

    With `draws` that many calibration groups are drawn, each without repetition, but one image is in many of them. The
    p-values are finer, and **approximate**: the groups are not independent, so that however many are drawn, the rate at
    which normal groups are flagged misses alpha by what n images leave open about the distribution of group scores.

    Args:
        calibration_scores: in-distribution scores of single images, ``[n]`` with n >= size.
        scores_of_groups: group scores to judge, any shape.
        size: images in each group, at least 1.
        draws: calibration groups to draw, at least 1; None for groups that share no image.
        seed: of the calibration groups.

    Raises:
        ValueError: a score is not finite, `size` or `draws` is out of range, or there are fewer calibration scores
            than one group takes.
    """
    calibration = finite_vector(calibration_scores, "calibration scores")
    _check_size(size)
    if calibration.size < size:
        raise ValueError(f"a group of {size} needs at least {size} calibration scores, got {calibration.size}")
    if draws is None:
        return conformal_p_values(group_scores(calibration, size, seed=seed), scores_of_groups)
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    rng = np.random.default_rng(seed)
    drawn = np.stack([rng.choice(calibration, size, replace=False) for _ in range(draws)])
    return conformal_p_values(_means(drawn), scores_of_groups)


def _means(groups: NDArray[np.float64]) -> NDArray[np.float64]:
    # Sorted first: a sum depends on its order in the last bits, and a group has none.
    return np.asarray(np.sort(groups, axis=1).mean(axis=1), dtype=np.float64)


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
