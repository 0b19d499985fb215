"""The first example of docs/online.md says what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "online.md").read_text("utf-8")


def test_the_example_prints_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = re.findall(r"```python\n(.+?)```", PAGE, re.DOTALL)[0]
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == re.findall(r"^# (.+)$", code, re.MULTILINE)
