from __future__ import annotations

import dataclasses
import re
from base64 import b64decode
from collections.abc import Sequence
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from measured_sets import MeasuredSets

from pcdm_core.report import MeasuredSet, measurements
from pcdm_core.report.gallery import Gallery, extremes
from pcdm_core.report.page import report_page

NASTY = '"><script>alert("1")</script>\n$x_{1$ &amp; \u202egnp.exe \udcff \u732b.png'
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser makes of a page; fails where tags are not closed in order."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(content.decode())
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value or "" for of, name, value in self.attributes if (of, name) == (tag, attribute)]


def report(sets: MeasuredSets, outside: Sequence[MeasuredSet], *, model: str = "tiny") -> bytes:
    galleries = []
    for one in (sets.inside, *outside):
        most, least = extremes(one, 2)
        pixels = {place: np.full((1, 3, 4), place % 256, np.uint8) for place in {*most, *least}}
        galleries.append(Gallery(one, most, least, pixels))
    document = {"model": model, **measurements(sets.calibration, sets.inside, outside)}
    return report_page(document, sets.calibration, galleries)


@pytest.fixture(scope="module")
def sets() -> MeasuredSets:
    return MeasuredSets()


@pytest.fixture(scope="module")
def content(sets: MeasuredSets) -> bytes:
    return report(sets, [sets.far, sets.near])


def test_tags_are_closed_in_order(content: bytes) -> None:
    assert content.startswith(b"<!DOCTYPE html>\n<html lang=")
    assert {"title", "table", "figure", "h1"} <= set(Page(content).tags)


def test_everything_shown_is_inside_the_file(content: bytes) -> None:
    page = Page(content)
    assert all(source.startswith("data:image/") for source in page.values("img", "src"))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert not any(name in {"href", "srcset", "style"} for _, name, _ in page.attributes)
    assert b"url(" not in content
    assert any("default-src 'none'" in value for value in page.values("meta", "content"))


def test_every_picture_has_words_for_those_who_do_not_see_it(content: bytes) -> None:
    page = Page(content)
    assert len(page.values("img", "alt")) == page.tags.count("img") == 4 + 3 * 4
    assert all(page.values("img", "alt"))


def test_charts_are_whole_and_fetch_nothing(content: bytes) -> None:
    charts = [
        b64decode(source.partition(",")[2])
        for source in Page(content).values("img", "src")
        if source.startswith("data:image/svg+xml")
    ]
    assert len(charts) == 4
    for chart in charts:
        values = [value for element in ElementTree.fromstring(chart).iter() for value in element.attrib.values()]
        assert not [value for value in values if "//" in value]


def test_equal_input_gives_equal_bytes(sets: MeasuredSets, content: bytes) -> None:
    assert report(MeasuredSets(), [sets.far, sets.near]) == content


def test_figures_stand_in_the_table(content: bytes) -> None:
    texts = Page(content).texts
    for words in ("AUROC", "FPR at 95 % TPR, ID positive", "AUROC of bits/dim alone", "OOD 2", "0.05", "spectrum"):
        assert words in texts


def test_a_nasty_name_is_text_and_nothing_else(sets: MeasuredSets) -> None:
    far = dataclasses.replace(sets.far, source=NASTY, names=[NASTY] * 300)
    content = report(sets, [far], model=NASTY)
    page = Page(content)
    assert "script" not in page.tags
    shown = '"><script>alert("1")</script>\\n$x_{1$ &amp; \\u202egnp.exe \\udcff \u732b.png'
    assert page.texts.count(shown) == 1 + 4
    assert page.values("img", "alt").count(shown) == 4
    assert re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", content) is None


@pytest.mark.parametrize("images", [1, 2])
def test_a_set_of_few_images_has_a_report(sets: MeasuredSets, images: int) -> None:
    assert b"too few images" in report(sets, [sets.first_of_far(images)])


def test_equal_scores_have_a_report(sets: MeasuredSets) -> None:
    flat = [
        dataclasses.replace(one, scores=np.zeros(len(one)), p_values=np.ones(len(one)), bits_per_dim=np.ones(len(one)))
        for one in (sets.inside, sets.far)
    ]
    document = {"model": "tiny", **measurements(sets.calibration, flat[0], flat[1:])}
    pixels = {0: np.zeros((1, 3, 4), np.uint8)}
    assert Page(report_page(document, sets.calibration, [Gallery(one, [0], [0], pixels) for one in flat]))
