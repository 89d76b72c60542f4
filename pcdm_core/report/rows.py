"""The figures as rows of text, the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["figure_rows", "interval", "rate_rows", "sentence_on_batches", "settings_text"]

_FIGURES: Mapping[str, str] = MappingProxyType(
    {
        "auroc": "AUROC",
        "aupr_out": "AUPR, OOD positive",
        "aupr_in": "AUPR, ID positive",
        "fpr_at_95_tpr_out": "FPR at 95 % TPR, OOD positive",
        "fpr_at_95_tpr_in": "FPR at 95 % TPR, ID positive",
    }
)


def figure_rows(document: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What each figure is called, and its value for each OOD set, of a document of `measurements`."""
    sets = document["sets"]
    rows = [("images, ID and OOD", [f"{one['n_in']}, {one['n_out']}" for one in sets])]
    rows += [(name, [interval(one[key]) for one in sets]) for key, name in _FIGURES.items()]
    rows.append(("share flagged", [_number(one["flagged"]) for one in sets]))
    rows.append(("AUROC of bits/dim alone", [interval(one["bits_per_dim"]["auroc"]) for one in sets]))
    rows.append(
        ("AUROC, score minus bits/dim (DeLong)", [_difference(one["score_against_bits_per_dim"]) for one in sets])
    )
    for name in sets[0]["compared"]:
        compared = [one["compared"][name] for one in sets]
        rows.append((f"AUROC of {name}", [interval(one["auroc"]) for one in compared]))
        rows.append((f"AUROC, score minus {name} (DeLong)", [_difference(one["score_against_it"]) for one in compared]))
    for place, group in enumerate(sets[0]["groups"]):
        name = f"AUROC, groups of {group['size']}"
        rows.append((name, [interval(one["groups"][place]["auroc"]) for one in sets]))
    return rows


def rate_rows(document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Wanted false-positive rate, the realised one, and its tolerance, each as text."""
    return [(f"{one['alpha']:g}", _number(one["rate"]), _number(one["tolerance"])) for one in document["id"]["rates"]]


def sentence_on_batches(document: Mapping[str, Any]) -> str:
    """How many images may be judged at once."""
    batch = document["largest_batch"]
    return (
        f"Benjamini-Hochberg at a false discovery rate of {batch['rate']:g}: a lone outlier can be flagged among "
        f"at most {batch['images']} images."
    )


def settings_text(values: Mapping[str, object]) -> str:
    """Settings that are set, by name."""
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def interval(figure: Mapping[str, float] | None) -> str:
    """A figure with its interval; None where there were too few images for one."""
    if figure is None:
        return "too few images"
    return f"{_number(figure['value'])} [{_number(figure['low'])}, {_number(figure['high'])}]"


def _number(value: float) -> str:
    return f"{value:.4f}"


def _difference(test: Mapping[str, float] | None) -> str:
    if test is None:
        return "too few images"
    return f"{test['difference']:+.4f} +- {_number(test['stderr'])}, {_p_value(test['p_value'])}"


def _p_value(p_value: float | None) -> str:
    if p_value is None:
        return "no p"
    # The normal approximation knows nothing of tails that far out, and a zero would be wrong.
    return "p < 1e-16" if p_value < 1e-16 else f"p = {p_value:.2g}"
