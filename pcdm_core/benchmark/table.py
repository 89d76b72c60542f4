"""A benchmark's document as Markdown: a page of its own, and a block for a README."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pcdm_core.report import interval, settings_text

__all__ = ["END", "START", "page", "readme_block", "replaced"]

START: Final = "<!-- benchmark:start -->"
END: Final = "<!-- benchmark:end -->"

_KINDS: Final = {
    "cascade": "of the cascade",
    "pixels": "without a network",
    "classifier": "of a classifier, which was trained with labels",
}
_PUBLISHED: Final = "published, not run here"


def page(document: Mapping[str, Any]) -> str:
    """The whole table with its intervals, and all that is needed to make it again.

    Args:
        document: with ``made``, ``model``, ``digest``, ``fidelity``, ``classifier``, ``fit``, ``in``, ``out``,
            ``rows`` and ``published``, as `pcdm benchmark --json` writes it.
    """
    made, on = document["made"], document["made"]["machine"]
    packages = ", ".join(f"{name} {release}" for name, release in on["packages"].items() if release)
    parts = [
        "# Detectors side by side",
        f"Made on {made['date']} by",
        f"```sh\n{made['command']}\n```",
        f"with the model {document['model']} of digest `{document['digest']}` ({settings_text(document['fidelity'])}), "
        f"on {on['processor']}, "
        f"{on['cores']} cores, {on['threads']} {_plural(on['threads'], 'thread')}, Python {on['python']}, {packages}.",
        f"Every row was fitted on {_count(document['fit'])} (a calibrated detector came so with the model) and scores "
        f"the same images in the same process, after the same preprocessing: {_count(document['in'])}, "
        f"in-distribution, against {_listed([_count(one) for one in document['out']])}. What is told is the AUROC of "
        "single images, with its 95 % bootstrap interval over images.",
        *_warnings(document),
        *(_section(document, kind) for kind in _KINDS if _of_kind(document, kind)),
        f"## {_PUBLISHED.capitalize()}",
        "AUROC as their authors tell it, CIFAR-10 in-distribution: other models, other images, other settings. None of "
        "these uses labels.",
        _table(["score", "set", "AUROC", "source"], _published_rows(document)),
        "*Network calls* are those of one image. *Images per second* are per second of one core (processor time), "
        "from pixels to score, measured in this run on a block of "
        f"{document['timed_images']} images.",
    ]
    return "\n\n".join(parts) + "\n"


def readme_block(document: Mapping[str, Any]) -> str:
    """The table without intervals, and in a few words what it is, for `replaced`."""
    made, on = document["made"], document["made"]["machine"]
    rows = [
        [row["name"], *_cost(row), *(f"{one['auroc']['value']:.3f}" for one in row["sets"])] for row in document["rows"]
    ]
    rows += [[f"*{name}*", "no", "", "", *cells] for name, cells in _published_here(document)]
    head = ["score", "labels", "network calls", "images/s", *_sources(document)]
    words = (
        f"AUROC of single images, {_count(document['in'])} against each set; fitted on {_count(document['fit'])}. "
        f"Images/s: per second of one core, {on['processor']}, {on['threads']} {_plural(on['threads'], 'thread')}. "
        f"In italics: {_PUBLISHED}. {made['date']}, model `{document['digest']:.12}`."
    )
    return f"{_table(head, rows)}\n\n{words}"


def replaced(text: str, block: str) -> str:
    """`text` with `block` between the markers `START` and `END`.

    Raises:
        ValueError: the markers are not there once each, in this order.
    """
    if text.count(START) != 1 or text.count(END) != 1 or text.index(START) > text.index(END):
        raise ValueError(f"needs one line {START} and, after it, one line {END}")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{block}\n{END}{after}"


def _warnings(document: Mapping[str, Any]) -> Iterator[str]:
    shared = [
        f"{count} of `{one['source']}` {'is' if count == 1 else 'are'} also in `{other}`"
        for one in (document["in"], *document["out"])
        for other, count in one["identical"].items()
        if count
    ]
    if shared:
        yield f"Images that are the same pixel for pixel: {_listed(shared)}."
    classifier = document["classifier"]
    if classifier is not None:
        right = classifier["accuracy"]
        measured = "" if right is None else f" It gets {right:.1%} of `{document['in']['source']}` right, in this run."
        yield (
            f"The classifier was trained with the labels of `{classifier['trained_on']}`: its rows are supervised, all "
            f"others are not.{measured}"
        )


def _section(document: Mapping[str, Any], kind: str) -> str:
    rows = [
        [row["name"], *_cost(row), *(interval(one["auroc"]) for one in row["sets"])] for row in _of_kind(document, kind)
    ]
    head = ["score", "labels", "network calls", "images/s", *_sources(document)]
    return f"## Scores {_KINDS[kind]}\n\n{_table(head, rows)}"


def _of_kind(document: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [row for row in document["rows"] if row["needs"] == kind]


def _cost(row: Mapping[str, Any]) -> tuple[str, str, str]:
    labels = "yes" if row["supervised"] else "no"
    return labels, f"{row['network_calls']:g}", _pace(row["images_per_core_second"])


def _pace(value: float) -> str:
    """Two digits that count: the third is another with every run."""
    return f"{float(f'{value:.1e}'):,.0f}" if value >= 10 else f"{value:.1f}"


def _published_rows(document: Mapping[str, Any]) -> list[list[str]]:
    return [
        [one["name"], name, f"{value:g}", one["source"] + (f"; {one['remark']}" if one["remark"] else "")]
        for one in document["published"]
        for name, value in one["auroc"].items()
    ]


def _published_here(document: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Published figures of the sets of this document; a set is known by what its specification begins with."""
    if document["in"]["source"].partition(":")[0] != "cifar10":
        return
    names = [one["source"].partition(":")[0] for one in document["out"]]
    for one in document["published"]:
        cells = [f"*{one['auroc'][name]:g}*" if name in one["auroc"] else "" for name in names]
        if any(cells):
            yield one["name"], cells


def _sources(document: Mapping[str, Any]) -> list[str]:
    return [f"`{one['source']}`" for one in document["out"]]


def _count(one: Mapping[str, Any]) -> str:
    return f"{one['images']:,} images of `{one['source']}`"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
