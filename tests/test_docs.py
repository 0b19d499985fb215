import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_configuration_page_says_what_the_models_say():
    document = runpy.run_path(str(DOCS / "write_configuration.py"))["document"]()
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == document, "run: python docs/write_configuration.py"
