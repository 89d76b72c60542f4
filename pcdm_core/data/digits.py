"""The handwritten digits that come with scikit-learn."""

import numpy as np

from pcdm_core.data.arrays import ArraySource

__all__ = ["open_digits"]


def open_digits(split: str | None) -> ArraySource:
    """1,797 grey images, 8x8 with 17 levels, labelled 0 to 9 (Alpaydin, Kaynak, "Optical recognition of digits", UCI).

    A pixel counts the inked dots of a 4x4 block, from 0 (paper) to 16 (ink). This count is the pixel's value, nothing
    is scaled: a cascade with `levels = 17` has the likelihood of the 17-level image. To a viewer that takes 255 for
    white, the digits are dark grey on black.

    The order is scikit-learn's: forms of about 130 digits, each filled in by one writer, so that the last images are by
    other writers than the first.

    Args:
        split: None; there are no splits, only windows such as `digits[:1000]`.

    Raises:
        ValueError: A split is given.
    """
    if split is not None:
        raise ValueError(f'digits: has no split; leave ":{split}" out, or take a window such as digits[:1000]')
    # Not at the top: no other source needs scikit-learn, which takes long to import.
    from sklearn.datasets import load_digits

    found = load_digits()
    return ArraySource(found.images.astype(np.uint8), found.target, title="digits")
