"""Peers that stand on a classifier: detectors of pytorch-ood (Kirchheim et al., CVPR Workshops 2022)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from pcdm_core.benchmark.classifier import Classifier, Outputs
from pcdm_core.benchmark.material import Material
from pcdm_core.benchmark.rows import Row, ScoreImages

__all__ = ["classifier_rows", "pytorch_ood_detectors"]

_PACKAGE: Final = "pytorch_ood"
_NEIGHBOURS: Final = 50  # of the paper, for CIFAR-10


def pytorch_ood_detectors() -> Any:
    """The module `pytorch_ood.detector`, without the rest of its package.

    The package imports its data sets and models with it, and these torchvision, which does not load beside a build of
    torch for another device; the detectors need none of that.

    Raises:
        ModuleNotFoundError: pytorch-ood is not installed; says how to install it.
    """
    if _PACKAGE in sys.modules:
        return importlib.import_module(f"{_PACKAGE}.detector")
    found = find_spec(_PACKAGE)
    if found is None or found.submodule_search_locations is None:
        raise ModuleNotFoundError(
            'peers with a classifier need the package pytorch-ood; install it with: pip install "pcdm[benchmark]"',
            name=_PACKAGE,
        )
    package = ModuleType(_PACKAGE)
    package.__path__ = list(found.submodule_search_locations)
    sys.modules[_PACKAGE] = package
    try:
        return importlib.import_module(f"{_PACKAGE}.detector")
    finally:
        del sys.modules[_PACKAGE]  # whoever wants the package itself shall not be given this shell of it


def classifier_rows(classifier: Classifier) -> tuple[Row, ...]:
    """Rows of a classifier's logits and features; those that are fitted use the labels of the images of the fit.

    Raises:
        ModuleNotFoundError: pytorch-ood is not installed.
    """
    known = pytorch_ood_detectors()
    head = classifier.head

    def of_logits(make: Callable[[None], Any]) -> Callable[[Material], ScoreImages]:
        def fit(_: Material) -> ScoreImages:
            detector = make(None)
            return lambda material: _numbers(detector.predict_logits(_outputs(material).logits))

        return fit

    def of_features(make: Callable[[int], Any]) -> Callable[[Material], ScoreImages]:
        def fit(of: Material) -> ScoreImages:
            detector = make(len(of.images)).fit_features(_outputs(of).features, _labels(of, head.out_features))
            return lambda material: _numbers(detector.predict_features(_outputs(material).features))

        return fit

    def nearest(count: int) -> Any:
        return known.KNN(None, k=min(_NEIGHBOURS, count))

    def virtual_logit(_: int) -> Any:
        return known.ViM(None, head.in_features // 2, head.weight, head.bias)

    return (
        Row("classifier, maximum softmax", "classifier", of_logits(known.MaxSoftmax)),
        Row("classifier, maximum logit", "classifier", of_logits(known.MaxLogit)),
        Row("classifier, energy", "classifier", of_logits(known.EnergyBased)),
        Row("classifier, nearest neighbours", "classifier", of_features(nearest)),
        Row("classifier, Mahalanobis", "classifier", of_features(lambda _: known.Mahalanobis(None))),
        Row("classifier, ViM", "classifier", of_features(virtual_logit)),
    )


def _outputs(material: Material) -> Outputs:
    assert material.outputs is not None, "rows of a classifier are there only with one"
    return material.outputs


def _labels(of: Material, classes: int) -> Tensor:
    if of.labels is None:
        raise ValueError("peers with a classifier need a label for each image of the fit, and these have none")
    missing = sorted(set(range(classes)) - set(of.labels.tolist()))
    if missing or of.labels.max() >= classes:
        raise ValueError(
            f"the images of the fit must have the {classes} classes of the classifier, 0 to {classes - 1}; "
            f"they have {', '.join(map(str, np.unique(of.labels)))}"
        )
    return torch.from_numpy(of.labels)


def _numbers(scores: Tensor) -> Any:
    return scores.detach().double().numpy()
