"""The page of `memunit report`: well-formed, harmless, and readable in each width and in the dark."""

from __future__ import annotations

import html
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from memunit.account import svg
from memunit.account.facts import Finding
from memunit.account.findings import diagnose
from memunit.account.lives import Account, build
from memunit.account.page import page
from memunit.core.messages import END_BY_CAUSE
from memunit.records import replace
from tests.unit.test_account import EVIL, NOW, entry, facts, leaking, life, worker


def parsed(text: str) -> ElementTree.Element:
    """The page is well-formed: an entry that broke out of its place would break this."""
    inner = text.partition("<body>")[2].partition("</body>")[0]
    inner = re.sub(r"<(td|th) class=(\w)>", r'<\1 class="\2">', inner)
    return ElementTree.fromstring(f"<body>{inner.replace('&#9679;', '*')}</body>")


@pytest.mark.parametrize("slots", [1, 2, 16, 64])
def test_the_page_draws_each_worker(slots: int) -> None:
    account = leaking(slots)
    text = page(account, diagnose(facts([])), limit=98 << 20, ceiling=200 << 20, grace=5.0, version="1")
    tree = parsed(text)
    assert len(tree.findall(".//path")) == 5 * slots
    assert (
        len([each for each in tree.iter("svg") if each.get("aria-label", "").startswith("memory of slot")])
        == slots
    )
    for figure in re.findall(r' (?:x|y|cx|cy|x1|x2|y1|y2|width|height)="([^"]*)"', text):
        float(figure)
    assert "nan" not in text
    assert "inf" not in re.sub(r"[a-z]*inf[a-z]+", "", text)


def test_nothing_foreign_acts_on_the_page() -> None:
    entries = [replace(each, message=EVIL) for cause in END_BY_CAUSE for each in life(NOW - 9, cause)]
    entries += life(NOW - 8, "crash-exit", pid=7, MEMUNIT_WORKER_STATUS=EVIL, MEMUNIT_DRAIN_USEC=5)
    account = build("shop", entries, NOW - 600, NOW)
    for each in account.lives:
        each.cause = EVIL
    text = page(account, diagnose(facts(entries, EVIL)), limit=None, ceiling=None, grace=None, version=EVIL)
    assert "<script" not in text
    assert all(line.isprintable() for line in text.split("\n"))
    assert "Content-Security-Policy" in text
    tree = parsed(text)
    assert not [each.tag for each in tree.iter() if each.tag in ("script", "img", "a", "iframe", "object")]
    assert html.escape("<script>") in text


# -- readable ------------------------------------------------------------------------------------------------------


def drawn(account: Account, **more: Any) -> str:
    """The page of an account."""
    return page(account, (), limit=98 << 20, ceiling=200 << 20, grace=5.0, version="1", **more)


def light(colour: str) -> float:
    """The relative luminance of a colour, as WCAG 2 has it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("back", ["#ffffff", "#14181f"])
def test_each_cause_stands_out_from_a_light_and_a_dark_page(back: str) -> None:
    """A crash was all but invisible in the dark, a recycle in the light."""
    assert back.replace("#ffffff", "#fff") in drawn(leaking(1))
    for cause, colour in svg.COLOURS.items():
        dark, bright = sorted((light(colour), light(back)))
        assert (bright + 0.05) / (dark + 0.05) >= 3, cause


@pytest.mark.parametrize("slots", [1, 4, 5, 15, 16, 64])
@pytest.mark.parametrize("span", [59, 600, 7 * 3600, 86400, 9 * 86400])
def test_no_label_is_cut_off_or_drawn_over(slots: int, span: int) -> None:
    account = leaking(slots)
    account.since = account.until - span
    for picture in parsed(drawn(account)).iter("svg"):
        width = float(picture.get("viewBox", "").split()[2])
        for label in picture.iter("text"):
            half = 7 * len(label.text or "") / 2
            if label.get("class") == "time":
                assert half <= float(label.get("x", "")) <= width - half, label.text
        kinds = [each.get("class") if each.tag == "text" else each.tag for each in picture]
        if "name" in kinds:
            assert not {"path", "circle"} & set(kinds[kinds.index("name") :])


@pytest.mark.parametrize("slots", [2, 10, 64])
def test_in_a_narrow_window_no_picture_is_shrunk_beyond_reading(slots: int) -> None:
    """In 400 columns the letters were 3 pixels high."""
    tree = parsed(drawn(leaking(slots)))
    wide = [each for box in tree.iter("div") if box.get("class") == "scroll" for each in box.iter("svg")]
    for picture in tree.iter("svg"):
        assert picture in wide or float(picture.get("viewBox", "").split()[2]) < 370
    grids = [each.get("style", "") for each in tree.iter("div") if each.get("class") == "grid"]
    assert ["min(100%, " in each for each in grids] == ([] if slots == 2 else [True])


def test_the_page_says_what_is_now_and_in_which_time() -> None:
    text = drawn(leaking(), status="2/2 workers, <96M of 100M>")
    assert "<p>Its status: 2/2 workers, &lt;96M of 100M&gt;</p>" in text
    assert "Its status" not in drawn(leaking())
    assert re.search(r"to [0-9-]+ [0-9:]+ \S+ \(10 min\), from the journal", text)
    assert "A bar is 10 s." in text


def test_nobody_is_told_to_make_the_page_that_is_read() -> None:
    steps = ["memunit report shop -o report.html draws it", "mend the app"]
    text = page(
        leaking(),
        [Finding("leak", 2, NOW, "leaks", [], steps)],
        limit=None,
        ceiling=None,
        grace=None,
        version="1",
    )
    assert "<ul><li>mend the app</li></ul>" in text


def test_what_nobody_knows_is_blank() -> None:
    """It read "unknown: unknown" and "0B"."""
    told = entry(NOW - 5, "EXAMINED", "Worker 0.1 has grown", **worker(), MEMUNIT_LEAK_VERDICT="unknown")
    text = drawn(build("shop", [*life(NOW - 9, "memory-limit"), told], NOW - 600, NOW))
    assert "<tr><td>unknown</td><td class=h></td><td class=n></td><td class=n></td>" in text


def test_an_entry_of_memunit_is_told_whole() -> None:
    """Of the longest the remedy was cut off, in the middle of a word."""
    words = f"The recycle did not help: {'it is at its limit again, ' * 14}raise memory.limit, or find that request"
    told = diagnose(facts([entry(NOW - 5, "RECYCLE_DID_NOT_HELP", words, **worker())]))[0]
    assert told.text[0] == f"{words}."
