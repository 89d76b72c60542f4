"""A benchmark from open sources of images to its document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pcdm_core.benchmark.classifier import Classifier
from pcdm_core.benchmark.duplicates import overlaps
from pcdm_core.benchmark.material import Material, all_labels
from pcdm_core.benchmark.measure import core_seconds, fitted, measured_row
from pcdm_core.benchmark.peers import PIXEL_ROWS
from pcdm_core.benchmark.published import PUBLISHED
from pcdm_core.benchmark.rows import ACTIVATION_ROWS, CASCADE_ROWS, Need, Row, calibrated_row
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
        scorer: of the cascade; the detectors that it is calibrated with are the first rows.
        classifier: for the supervised peers, or None.
        cache: folder that keeps findings, or None.
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
        cache: Path | None,
        progress: ShowProgress,
    ) -> None:
        shape = scorer.cascade.config.image_shape
        if classifier is not None and classifier.card.image_shape != shape:
            raise ValueError(f"the classifier takes images {classifier.card.image_shape}, the cascade {shape}")
        self._scorer, self._classifier, self._progress = scorer, classifier, progress
        self._cache = cache
        # Those that see what the default one sees need no evaluation of their own.
        self._further = {name: one for name, one in scorer.detectors.items() if one.fidelity != scorer.fidelity}
        self.rows: tuple[Row, ...] = (
            *(
                calibrated_row(one.calibration, elsewhere=name in self._further)
                for name, one in scorer.detectors.items()
                if one.calibration is not None
            ),
            *CASCADE_ROWS,
            *(ACTIVATION_ROWS if scorer.fidelity.activations else ()),
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
        # Further detectors were fitted when they were calibrated.
        material = {name: self._material(name, one, further=name != fit) for name, one in read.items()}
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

    def _material(self, name: str, read: _Read, *, further: bool) -> Material:
        found = self._found(name, self._scorer, read.images)
        outputs = None if self._classifier is None else self._classifier.outputs(read.images)
        judges = self._further.items() if further else ()
        seen = {key: self._found(f"{name} for {key}", one, read.images) for key, one in judges}
        return Material(read.images, found, outputs, read.labels, seen)

    def _found(self, name: str, scorer: CascadeScorer, images: NDArray[np.uint8]) -> Findings:
        find: Callable[[NDArray[np.uint8]], Findings] = partial(scorer.findings, fidelity=scorer.fidelity)
        if self._cache is not None:
            find = FindingsCache(self._cache, scorer, scorer.fidelity).findings
        parts = []
        with self._progress(f"scoring {name}", len(images)) as update:
            for start in range(0, len(images), scorer.batch_size):
                block = images[start : start + scorer.batch_size]
                parts.append(find(block))
                update(start + len(block))
        return Findings.join(parts)

    def _sample(self, images: NDArray[np.uint8]) -> tuple[Material, dict[Need, float], dict[Need, float]]:
        """A few images, and for each need the network calls of one and the core-seconds of all of them."""
        images = images[:_TIMED]
        scorers = {"cascade": self._scorer, **self._further}
        scores = {need: scorer.score(images) for need, scorer in scorers.items()}
        found = {need: Findings.of(own, scorers[need].layout(scorers[need].fidelity)) for need, own in scores.items()}
        calls = {need: float(own[0].network_calls) for need, own in scores.items()} | {"pixels": 0.0, "classifier": 1.0}
        seconds = {need: core_seconds(partial(scorer.score, images)) for need, scorer in scorers.items()}
        seconds["pixels"], outputs = 0.0, None
        if self._classifier is not None:
            classifier = self._classifier
            outputs = classifier.outputs(images)
            seconds["classifier"] = core_seconds(lambda: classifier.outputs(images))
        return Material(images, found.pop("cascade"), outputs, further=found), calls, seconds

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
