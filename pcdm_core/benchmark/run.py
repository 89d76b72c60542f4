"""A benchmark from open sources of images to its document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pcdm_core.benchmark.classifier import Classifier
from pcdm_core.benchmark.duplicates import overlaps
from pcdm_core.benchmark.material import Material, all_labels
from pcdm_core.benchmark.measure import core_seconds, fitted, measured_row
from pcdm_core.benchmark.peers import PIXEL_ROWS
from pcdm_core.benchmark.published import PUBLISHED
from pcdm_core.benchmark.rows import CASCADE_ROWS, Need, Row, calibrated_row
from pcdm_core.benchmark.supervised import classifier_rows
from pcdm_core.data import ImageSource
from pcdm_core.scoring import CascadeScorer, Findings, FindingsCache

__all__ = ["Bench", "ShowProgress"]

ShowProgress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows how far some work is, by its name and its total; yields a function that takes the running count."""

_TIMED: Final = 128


@dataclass(frozen=True, eq=False)
class _Read:
    names: list[str]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None


class Bench:
    """All that scores images, and the sets that it is tried on.

    Args:
        scorer: of the cascade; with a calibration, its detector is the first row.
        classifier: for the supervised peers, or None.
        cache: of the findings of `scorer` at its own fidelity, or None.
        progress: see `ShowProgress`.

    Raises:
        ValueError: the classifier takes other images than the cascade.
        ModuleNotFoundError: there is a classifier, but pytorch-ood is not installed.
    """

    def __init__(
        self,
        scorer: CascadeScorer,
        *,
        classifier: Classifier | None,
        cache: FindingsCache | None,
        progress: ShowProgress,
    ) -> None:
        shape = scorer.cascade.config.image_shape
        if classifier is not None and classifier.card.image_shape != shape:
            raise ValueError(f"the classifier takes images {classifier.card.image_shape}, the cascade {shape}")
        self._scorer, self._classifier, self._progress = scorer, classifier, progress
        self._find = partial(scorer.findings, fidelity=scorer.fidelity) if cache is None else cache.findings
        self.rows: tuple[Row, ...] = (
            *(() if scorer.calibration is None else (calibrated_row(scorer.calibration),)),
            *CASCADE_ROWS,
            *PIXEL_ROWS,
            *(() if classifier is None else classifier_rows(classifier)),
        )

    def run(self, sources: Mapping[str, ImageSource], fit: str, inside: str, outside: Sequence[str]) -> dict[str, Any]:
        """Score all sets with all rows.

        Args:
            sources: by specification.
            fit: which of them all rows are fitted on.
            inside: which is in-distribution.
            outside: which are OOD.

        Returns:
            The document without ``made``; ready for JSON. Figures depend on nothing but the images, the networks and
            the machine's arithmetic; ``images_per_core_second`` alone is another with every run.

        Raises:
            ValueError: sets share images, a row cannot be fitted, or a source is broken.
            ImageError: an image is refused.
            OSError: a source or the cache cannot be read.
        """
        read = {name: self._read(name, source) for name, source in sources.items()}
        shared = overlaps({name: one.names for name, one in read.items()}, {k: one.images for k, one in read.items()})
        material = {name: self._material(name, one) for name, one in read.items()}
        told = {name: {"source": name, "images": len(read[name].images), "identical": shared[name]} for name in read}
        outlying = {name: material[name] for name in outside}
        sample, calls, seconds = self._sample(read[inside].images)
        with self._progress("comparing", len(self.rows) * len(outside)) as update:
            done = count(1)
            rows = [
                measured_row(
                    row,
                    fitted(row, material[fit]),
                    material[inside],
                    outlying,
                    sample=sample,
                    seconds=seconds[row.needs],
                    network_calls=calls[row.needs],
                    progress=lambda: update(next(done)),
                )
                for row in self.rows
            ]
        return {
            "model": self._scorer.model_name,
            "digest": self._scorer.digest,
            "fidelity": self._scorer.fidelity.settings(),
            "classifier": self._told_of_classifier(material[inside]),
            "timed_images": len(sample.images),
            "fit": told[fit],
            "in": told[inside],
            "out": [told[name] for name in outside],
            "rows": rows,
            "published": [asdict(one) for one in PUBLISHED],
        }

    def _read(self, name: str, source: ImageSource) -> _Read:
        size = self._scorer.preprocessing
        images = np.empty((len(source), size.channels, size.height, size.width), dtype=np.uint8)
        names, labels = [], []
        with self._progress(f"reading {name}", len(source)) as update:
            for place, item in enumerate(source):
                images[place] = size.prepare(item.image, name=item.source).pixels
                names.append(item.source)
                labels.append(item.label)
                update(place + 1)
        return _Read(names, images, all_labels(labels))

    def _material(self, name: str, read: _Read) -> Material:
        scorer, parts = self._scorer, []
        with self._progress(f"scoring {name}", len(read.images)) as update:
            for start in range(0, len(read.images), scorer.batch_size):
                block = read.images[start : start + scorer.batch_size]
                parts.append(self._find(block))
                update(start + len(block))
        outputs = None if self._classifier is None else self._classifier.outputs(read.images)
        return Material(read.images, Findings.join(parts), outputs, read.labels)

    def _sample(self, images: NDArray[np.uint8]) -> tuple[Material, dict[Need, float], dict[Need, float]]:
        """A few images, and for each need the network calls of one and the core-seconds of all of them."""
        images = images[:_TIMED]
        scores = self._scorer.score(images)
        sample = Material(
            images,
            Findings.of(scores, self._scorer.layout(self._scorer.fidelity)),
            None if self._classifier is None else self._classifier.outputs(images),
        )
        calls: dict[Need, float] = {"cascade": float(scores[0].network_calls), "pixels": 0.0, "classifier": 1.0}
        seconds: dict[Need, float] = {"cascade": core_seconds(lambda: self._scorer.score(images)), "pixels": 0.0}
        if self._classifier is not None:
            classifier = self._classifier
            seconds["classifier"] = core_seconds(lambda: classifier.outputs(images))
        return sample, calls, seconds

    def _told_of_classifier(self, inside: Material) -> dict[str, Any] | None:
        if self._classifier is None or inside.outputs is None:
            return None
        accuracy = None
        if inside.labels is not None:
            accuracy = float((inside.outputs.logits.argmax(1).numpy() == inside.labels).mean())
        return {
            "digest": self._classifier.digest,
            **self._classifier.card.model_dump(mode="json"),
            "accuracy": accuracy,
        }
