"""docs/command-line.md speaks of every command; all pages and the README tell what can be typed."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from isthmus.cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command-line.md").read_text("utf-8")


def typed(page: str) -> list[str]:
    return re.findall(r"^\$ isthmus (.+)$", page.replace("\\\n", ""), re.MULTILINE)


TYPED = typed(PAGE)
ELSEWHERE = [
    words
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    for words in typed(page.read_text("utf-8"))
]


def test_every_command_has_a_section_with_an_example() -> None:
    headings = re.findall(r"^## ([\w-]+)$", PAGE, re.MULTILINE)
    assert headings == list(get_command(app).commands)  # type: ignore[attr-defined]
    assert {words.split()[0] for words in TYPED} == set(headings)


@pytest.mark.parametrize("words", dict.fromkeys([*TYPED, *ELSEWHERE]))
def test_examples_are_understood(words: str) -> None:
    name, *rest = shlex.split(words, comments=True)
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    if hasattr(command, "commands"):
        name, *rest = rest
        command = command.commands[name]
    # Raises where an option or argument is not known; what is left unread belongs to nothing.
    assert command.make_context(name, rest).args == []


def every_command() -> list[Any]:
    """The commands, and those of their groups."""
    found = list(get_command(app).commands.values())  # type: ignore[attr-defined]
    groups = [getattr(command, "commands", {}) for command in found]
    return [*found, *(command for group in groups for command in group.values())]


def test_options_that_the_page_names_exist() -> None:
    known = {
        option
        for command in every_command()
        for parameter in command.params
        for option in parameter.opts
    } | {option for parameter in get_command(app).params for option in parameter.opts}
    assert named(PAGE) <= known | {"--help"}


EVERYWHERE = {"--config", "--set", "--runs", "--model", "--json"}
"""Explained once for all commands."""


def test_every_option_is_on_the_page() -> None:
    unsaid = {
        (command.name, option)
        for command in every_command()
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option not in named(PAGE)
    }
    assert not unsaid


@pytest.mark.parametrize("name", ["fit", "compare", "align", "search"])
def test_the_section_of_a_command_names_its_options(name: str) -> None:
    section = re.split(r"^## ", PAGE.partition(f"\n## {name}\n")[2], flags=re.MULTILINE)[0]
    command = get_command(app).commands[name]  # type: ignore[attr-defined]
    options = {o for p in command.params for o in p.opts if o.startswith("--")}
    assert options - EVERYWHERE <= named(section)


def named(text: str) -> set[str]:
    """Options that a text names."""
    return set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text))
