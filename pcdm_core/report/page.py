"""A report as one HTML file that needs nothing else: pictures are inside, and nothing is fetched."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from pcdm_core.detection import Calibration
from pcdm_core.report.figures import draw_reliability, draw_roc, draw_scales, draw_scores, labels
from pcdm_core.report.gallery import Gallery, png
from pcdm_core.report.rows import figure_rows, rate_rows, sentence_on_batches, settings_text

__all__ = ["report_page"]

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .8rem; text-align: left; vertical-align: top;
  overflow-wrap: anywhere; }
td { font-variant-numeric: tabular-nums; }
figure { display: inline-block; margin: 1rem 1rem 1rem 0; vertical-align: top; }
figcaption { color: #555; font-size: .85rem; max-width: 40rem; overflow-wrap: anywhere; }
.chart img { width: 40rem; max-width: 100%; }
.specimen { width: 8rem; margin: .5rem .5rem .5rem 0; }
.specimen img { width: 8rem; image-rendering: pixelated; }
.specimen figcaption { font-size: .7rem; }
"""
# A browser that is told so fetches nothing, whatever a later change of this page may ask for.
_POLICY: Final = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def report_page(document: Mapping[str, Any], calibration: Calibration, galleries: Sequence[Gallery]) -> bytes:
    """The whole report; equal input gives equal bytes.

    Args:
        document: of `measurements`, with ``model`` besides.
        calibration: that made the scores.
        galleries: of the in-distribution set, then of the OOD sets as they are in `document`.

    Returns:
        HTML in UTF-8.
    """
    inside, *outside = (gallery.of for gallery in galleries)
    names = labels(outside)
    title = f"{_shown(document['model'])}: out-of-distribution detection"
    root = Element("html", lang="en")
    head, body = SubElement(root, "head"), SubElement(root, "body")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", title)
    _add(head, "style", _STYLE)
    _add(body, "h1", title)
    _table(body, [], _provenance(calibration))
    _add(body, "h2", "Sets")
    sets = [(name, one.source, str(len(one))) for name, one in zip(names, (inside, *outside), strict=True)]
    _table(body, ["set", "source", "images"], sets)
    _add(body, "h2", "Figures")
    _table(body, ["", *names[1:]], [(name, *cells) for name, cells in figure_rows(document)])
    _add(body, "p", "In brackets: 95 % bootstrap intervals over images. Groups: mean scores of images judged together.")
    _add(body, "p", sentence_on_batches(document))
    _chart(body, draw_roc(inside, outside), "ROC curves", "Of the score, and of bits/dim alone.")
    beyond = "Scores beyond the axis are counted in the outermost bins."
    _chart(body, draw_scores(calibration, inside, outside), "Histograms of the scores", beyond)
    scales = "Scale 1 is the coarsest; prior and diffusion of a scale are one part."
    _chart(body, draw_scales(inside, outside), "Mean bits/dim by scale", scales)
    _add(body, "h2", "False-positive rates")
    _table(body, ["alpha", "ID images flagged", "tolerance"], rate_rows(document))
    _add(
        body,
        "p",
        "Tolerance: two standard errors, 2 sqrt(alpha (1 - alpha) (1 / n_calibration + 1 / n_test)), "
        f"with n_calibration = {calibration.calibration_scores.size} and n_test = {len(inside)}.",
    )
    band = "p-values of the ID images follow the diagonal, within the band at most alphas, if they mean what they say."
    _chart(body, draw_reliability(calibration, inside), "Reliability of the p-values", band)
    _add(body, "h2", "Most and least typical images")
    _add(body, "p", "As the model sees them.")
    for name, gallery in zip(names, galleries, strict=True):
        _gallery(body, name, gallery)
    return f"<!DOCTYPE html>\n{tostring(root, encoding='unicode', method='html')}\n".encode()


def _provenance(calibration: Calibration) -> Iterable[tuple[str, str]]:
    identity = calibration.identity
    yield "model digest", identity.model_digest
    yield "detector", identity.detector
    yield "fidelity", settings_text(identity.fidelity)
    yield "preprocessing", settings_text(identity.preprocessing)
    yield "precision", identity.precision
    yield "calibration images", str(calibration.calibration_scores.size)
    yield "alpha", f"{calibration.alpha:g}"


def _gallery(body: Element, name: str, gallery: Gallery) -> None:
    for kind, positions in (("most", gallery.most_typical), ("least", gallery.least_typical)):
        _add(body, "h3", f"{name}, {kind} typical")
        row = SubElement(body, "div")
        for position in positions:
            source = gallery.of.names[position]
            specimen = SubElement(row, "figure", {"class": "specimen"})
            _picture(specimen, "image/png", png(gallery.pixels[position]), source)
            caption = _add(specimen, "figcaption", source)
            _add(caption, "br").tail = f"score {gallery.of.scores[position]:.3f}, p {gallery.of.p_values[position]:.4f}"


def _chart(body: Element, svg: bytes, title: str, caption: str) -> None:
    chart = SubElement(body, "figure", {"class": "chart"})
    _picture(chart, "image/svg+xml", svg, title)
    _add(chart, "figcaption", f"{title}. {caption}")


def _picture(parent: Element, kind: str, content: bytes, text: str) -> None:
    source = f"data:{kind};base64,{b64encode(content).decode()}"
    SubElement(parent, "img", src=source, alt=_shown(text))


def _table(body: Element, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = SubElement(body, "table")
    if columns:
        line = SubElement(SubElement(table, "thead"), "tr")
        for column in columns:
            _add(line, "th", column).set("scope", "col")
    lines = SubElement(table, "tbody")
    for first, *cells in rows:
        line = SubElement(lines, "tr")
        _add(line, "th", first).set("scope", "row")
        for cell in cells:
            _add(line, "td", cell)


def _add(parent: Element, tag: str, text: str | None = None) -> Element:
    element = SubElement(parent, tag)
    # The style is no name: its line breaks are its own.
    element.text = text if text is None or tag == "style" else _shown(text)
    return element


def _shown(text: str) -> str:
    """Without what cannot be shown: control characters, marks that turn the direction of writing, broken Unicode.

    What HTML would take for its own is escaped as the page is written.
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
