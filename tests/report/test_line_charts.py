"""Lines as SVG: what goes up stands higher, gaps stay gaps, and names are text."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

from isthmus.report.lines import write_lines


def paths(svg: str) -> list[str]:
    return re.findall(r'class="line"[^>]* d="([^"]*)"', svg)


def test_higher_values_stand_higher_and_a_gap_is_a_gap(tmp_path: Path) -> None:
    lines = {"one": [1.0, 2.0, math.nan, 4.0], "<two>": [0.5, 0.5, 0.5, 0.5]}
    svg = write_lines(tmp_path / "x.svg", "A & B", "up", lines, across="right").read_text()
    root = ElementTree.fromstring(svg)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "A & B" in texts
    assert "<two>" in texts
    first, second = paths(svg)
    heights = [float(point.split()[1]) for point in re.split("[ML]", first)[1:]]
    assert heights[0] > heights[1] > heights[2]
    assert (first.count("M"), first.count("L"), second.count("M")) == (2, 1, 1)


def test_one_point_or_equal_values_can_be_drawn(tmp_path: Path) -> None:
    for line in ([0.2], [0.0, 0.0], [math.nan]):
        svg = write_lines(tmp_path / "x.svg", "t", "c", {"a": line}, across="x").read_text()
        assert "nan" not in "".join(paths(svg))
