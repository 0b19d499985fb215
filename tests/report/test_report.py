import json
import re
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console
from run_samples import HOSTILE, SLICE_GATES, SYSTEMS, bare, full, points, rows

from isthmus.experiment.records import write_run
from isthmus.experiment.schema import RunRecord
from isthmus.experiment.verdict import verdict as worded
from isthmus.report.figures import write_picture
from isthmus.report.model_card import card, write_model_card
from isthmus.report.page import render, write_report
from isthmus.report.reading import duration, figure, harm_table, harmed, standing, uplift
from isthmus.report.tables import overview


class Page(HTMLParser):
    """Every tag, attribute and visible word of a page; and its scripts apart."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.charts: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if tag == "script" and "data-chart" in dict(attrs):
            self._inside = "chart"

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "chart":
            self.charts.append(data)
        elif not self._inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render(full()))


def test_the_page_says_every_verdict_first_and_names_every_system(page: Page) -> None:
    for verdict in full().verdicts:
        assert verdict.sentence in page.text
    assert page.text.index(full().verdicts[0].sentence) < page.text.index("side by side")
    for system in SYSTEMS:
        assert page.text.count(system) >= 2


def test_the_page_asks_for_nothing_from_anywhere(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img")
        for name in ("src", "href", "action", "srcset", "data"):
            assert (attributes.get(name) or "#").startswith("#")
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "url(" not in render(bare()).split("<style>")[1].split("</style>")[0]


def test_titles_cannot_run(page: Page) -> None:
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    plain = [attributes for attributes in scripts if not attributes]
    assert len(plain) == 2
    assert len(scripts) == len(plain) + len(page.charts)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE[0] in page.text
    for chart in page.charts:
        assert "<" not in chart
        json.loads(chart)


def test_titles_in_charts_are_escaped_for_plotly(page: Page) -> None:
    shown = [t for c in page.charts for d in json.loads(c)["data"] for t in d.get("text") or []]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(2)&gt;" in shown
    assert not [t for t in shown if "<script" in t or "<img" in t]


def test_titles_of_all_scripts_are_shown_and_long_ones_shortened(page: Page) -> None:
    for title in HOSTILE[1:4]:
        assert title in page.text
    assert HOSTILE[4].strip() not in page.text
    assert "long long" in page.text


def test_every_section_is_there(page: Page) -> None:
    ids = {attributes.get("id") for _, attributes in page.tags}
    sections = {"systems", "whom", "gate", "people", "learning", "map", "distances"}
    sections |= {"data", "cost", "config"}
    assert sections <= ids
    links = {a["href"] for t, a in page.tags if t == "a"}
    assert links == {f"#{name}" for name in sections}


def test_distances_of_learned_vectors_stand_beside_those_of_texts(page: Page) -> None:
    assert "1,234 pairs" in page.text
    assert "texts 0.0391 1.97 0.855 0.430 0.090 0.160" in page.text
    assert "learned −0.0002 – 0.200 – −0.001 0.010" in page.text


def test_what_is_absent_is_left_out() -> None:
    page = Page(render(bare()))
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert not ids & {"gate", "people", "learning", "map", "distances", "data"}
    assert {a["href"] for t, a in page.tags if t == "a"} == {
        "#systems", "#whom", "#cost", "#config",
    }  # fmt: skip
    assert "None" not in page.text
    alone = bare(verdicts=[], systems=[], metrics=bare().metrics.filter(system="popular"))
    page = Page(render(alone))
    assert "popular" in page.text
    assert not page.charts


def test_the_figures_of_the_page_are_those_of_the_record(page: Page) -> None:
    record = full()
    table = standing(record, "gear")
    assert [row.system.name for row in table.rows][:3] == ["isthmus", "cross-domain", "target-only"]
    best = table.rows[0].cells[0]
    assert best is not None
    assert best.best
    known = record.metrics.filter(
        system="isthmus", target="gear", slice="all", metric="ndcg@10"
    )["value"][0]  # fmt: skip
    assert best.value == known
    assert figure(known) in page.text
    other = table.rows[-1]
    assert other.system.name == "popular"
    assert other.lead is not None
    assert other.lead.low > 0


def test_uplift_is_relative_and_harm_is_what_holm_leaves() -> None:
    record = full()
    rows = uplift(record, "gear")
    assert rows[0].slice == "all"
    assert rows[0].relative.value == pytest.approx(0.38)
    assert [row.slice for row in harmed(record, "gear")] == ["target history > 10"]
    assert not harmed(record, "gear", "gated")
    unsure = record.metrics.with_columns(p_holm=0.3 + 0 * record.metrics["value"])
    assert not harmed(full(metrics=unsure), "gear")


def test_hits_among_all_sampled_candidates_are_left_out_of_table_and_card() -> None:
    def columns(candidates: int) -> list[str]:
        config = {"evaluation": {"candidates": candidates}}
        return standing(full(config=config), "gear").columns

    assert "hit_rate@100" in columns(100), "the answer may stand behind the 100 others"
    for candidates in (50, 99):
        assert "hit_rate@100" not in columns(candidates)
        assert {"ndcg@10", "hit_rate@10", "mrr"} <= set(columns(candidates))
    assert "HR@100" in card(full())
    assert "HR@100" not in card(full(config={"evaluation": {"candidates": 50}}))


def test_write_report_and_card(tmp_path: Path) -> None:
    write_run(tmp_path, full())
    report, model_card = write_report(tmp_path), write_model_card(tmp_path)
    assert report == tmp_path / "report.html"
    assert report.read_text("utf-8") == render(full())
    assert model_card == tmp_path / "model-card.md"
    assert model_card.read_text("utf-8") == card(full())


@pytest.mark.parametrize("record", [full(), bare()], ids=["full", "bare"])
def test_the_card_has_every_section_and_whole_tables(record: RunRecord) -> None:
    text = card(record)
    assert re.findall(r"^## (.+)$", text, re.M) == [
        "What it is", "Intended use", "Data", "Figures", "Where it hurts", "Gate", "Limits",
        "Cost", "Versions",
    ]  # fmt: skip
    for verdict in record.verdicts:
        assert verdict.sentence in text
    assert "more than 10 events in gear: −60 %" in text or "−23 %" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1
        assert len(block.splitlines()) > 2


def test_the_card_keeps_hostile_names_in_their_cells() -> None:
    text = card(bare(notes=["a | b\n# c <img src=x onerror=alert(1)>"]))
    assert "- a \\| b # c &lt;img" in text


def test_the_picture_is_sound_and_small(tmp_path: Path) -> None:
    path = write_picture(full(), tmp_path / "docs" / "uplift.svg")
    root = ElementTree.fromstring(path.read_text("utf-8"))
    words = " ".join(" ".join(root.itertext()).replace("\u00a0", " ").split())
    assert "people new to gear" in words
    assert "−23 %" in words
    assert path.stat().st_size < 20_000
    width = float(root.attrib["width"])
    for mark in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 < float(mark.attrib["cx"]) < width


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_says_the_same_within_its_width(width: int) -> None:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(overview(full()))
    said = capture.get()
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) <= width
    flat = " ".join(said.split())
    for verdict in full().verdicts:
        assert verdict.sentence in flat
    for system in SYSTEMS:
        assert re.search(rf"^{re.escape(system)} .*0\.\d{{4}} ±", said, re.M)
    assert re.search(r"^everybody +7,144 +\+38 % .*●", said, re.M)


def test_spans_of_time_and_figures() -> None:
    assert [duration(s) for s in (4.21, 161.4, 4321)] == ["4.2 s", "2 min 41 s", "1 h 12 min"]
    assert [figure(v) for v in (0.05, 11.23, 123456.7)] == ["0.0500", "11.2", "123,457"]


def test_page_card_and_terminal_name_who_is_refused_and_why(page: Page) -> None:
    record = full()
    refused = "people with 9 or more events in gear and a history elsewhere"
    why = (
        "−9 % (−16 % to −1 %) on 377 questions, "
        "measured −12 % before it was drawn towards the change for all"
    )
    assert f"Refused to {refused}: {why}." in page.text
    assert f"  - Refused to {refused}: {why}." in card(record)
    console = Console(width=100)
    with console.capture() as capture:
        console.print(overview(record))
    shown = " ".join(capture.get().split())
    assert f"not to {refused}: {why}" in shown
    # Only where others get something, and never those who get a part.
    assert shown.count("not to people") == page.text.count("Refused to") == 1


def test_every_group_stands_in_a_table_with_what_it_was_judged_by(page: Page) -> None:
    card_ = card(full())
    row = "| people new to gear | 812 | +61 % (+40 % to +85 %) | +60 % (+39 % to +83 %) | 100 % |"
    assert row in card_
    small = "people with 9 or more events in gear and none elsewhere"
    assert f"| {small} | 31 | too few, as all | too few, as all | 100 % |" in card_
    assert page.text.count("people new to gear") >= 1
    assert "790 with their history in gear hidden" in page.text
    assert "60 %" in card_


def test_a_gate_that_differs_by_group_is_called_neither_open_nor_shut() -> None:
    gates = [{"target": "gear", "weight": 0.0, "slices": SLICE_GATES}]
    shown = Page(render(bare(gates=gates, verdicts=[worded("gear", ["books"], 0.1, 0, 0.2, 0.0)])))
    assert "gate 0 % open not the same for everybody" in shown.text


def test_without_groups_nothing_is_said_of_them() -> None:
    gates = [{"target": "gear", "weight": 0.0}]
    assert "For whom, on" not in render(bare(gates=gates))
    assert "by how much people have done" not in card(bare(gates=gates))


def test_gain_by_share_of_data_stands_in_charts_words_and_table() -> None:
    record = full(points=points())
    page = Page(render(record))
    assert "less" in {attributes.get("id") for _, attributes in page.tags}
    charts = [json.loads(chart)["data"] for chart in page.charts]
    named = {tuple(trace["name"] for trace in chart): chart for chart in charts if chart}
    every = named[("gear", "films")]
    assert every[0]["y"] == [0.9, 0.38]
    assert every[0]["error_y"]["array"] == pytest.approx([0.05, 0.05])
    under = named[("as it is", "texts shuffled", "source histories swapped")]
    assert [trace["y"] for trace in under] == [
        pytest.approx(gains) for gains in ([0.9, 0.38], [0.873, 0.3686], [0.018, 0.0076])
    ]
    assert ("as it is", "texts shuffled") in named
    for words in ("10 % of the people", "all data", "texts shuffled", "source histories swapped"):
        assert words in page.text
    for said in (
        "gear with 10 % of the people: NDCG@10 +90 % (+85 % to +95 %) with transfer.",
        "With texts shuffled, it stays as it is within chance: +87 %",
        "With source histories swapped, no sure gain is left",
        "So it rests mostly on the people in common.",
        "films with all data: NDCG@10 −1 % (−6 % to +4 %) with transfer, no sure gain",
    ):
        assert said in page.text
        assert said in " ".join(card(record).split())
    console = Console(width=100, record=True, file=StringIO())
    console.print(overview(record))
    shown = " ".join(console.export_text().split())
    assert "gear, 10 % of the people 600 +90 % (+85 % to +95 %)" in shown
    assert "So it rests mostly on the people in common." in shown


def test_a_share_not_measured_leaves_no_section(page: Page) -> None:
    assert "less" not in {attributes.get("id") for _, attributes in page.tags}
    assert "of its data" not in page.text


def test_harm_stands_beside_what_the_gate_keeps() -> None:
    """At a tenth of gear's data the gate keeps half of the gain and lets one slice be harmed."""
    few = [row | {"share": 0.1} for row in rows({"gear": 0.38})]
    for row in few:
        if row["system"] == "isthmus" and row.get("against") == "target-only":
            row |= {"p_holm": 0.01}
            if row["slice"] == "all":
                row |= {"value": row["value"] / 2}
            if row["slice"] == "target history > 10":
                row |= {"value": -0.01, "ci_low": -0.012, "ci_high": -0.008}
    record = full(metrics=[*rows({"gear": 0.38, "films": -0.02}), *few], points=points())
    found = {(row.target, row.share): row for row in harm_table(record)}
    assert set(found) == {("gear", 0.1), ("gear", 1.0), ("films", 1.0)}
    assert found["gear", 0.1].kept == pytest.approx(0.5, abs=0.01)
    assert found["gear", 1.0].kept == pytest.approx(1.0)
    assert [row.slice for row in found["gear", 0.1].still] == ["target history > 10"]
    assert [row.slice for row in found["gear", 1.0].harmed] == ["target history > 10"]
    assert found["gear", 1.0].still == []
    assert found["films", 1.0].kept is None
    page = Page(render(record))
    assert "what the gate keeps of the gain" in page.text
    assert "no sure gain" in page.text
