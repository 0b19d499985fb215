import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md")), ROOT / "benchmarks" / "README.md"]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page ends in."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_lead_somewhere(page: Path):
    prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = page.parent / name if name else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def test_the_configuration_page_says_what_the_models_say():
    document = runpy.run_path(str(DOCS / "write_configuration.py"))["document"]()
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == document, "run: python docs/write_configuration.py"


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    notebook = json.loads((DOCS / "isthmus.ipynb").read_text("utf-8"))
    kept = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = runpy.run_path(str(DOCS / "run_notebook.py"))["run"](notebook)
    assert found["offered"].height == 5
    assert found["told"]["all"]["rmse"] < found["by_mean"]
    *_, last = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert last["outputs"][0]["data"]["text/plain"] == ["True"]
    # What the file shows was made by running it.
    shown = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [len(outputs) for outputs in shown] == [len(outputs) for outputs in kept]
