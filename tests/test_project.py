"""The frame: what the code imports is declared, and what is declared has a tested version."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def plain(requirement: str) -> str:
    """A distribution's name as registries compare it."""
    name = re.match(r"[\w.-]+", requirement)
    assert name
    return re.sub(r"[-_.]+", "-", name[0]).lower()


def declared(*extras: str) -> set[str]:
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][e] for e in extras)]
    return {plain(requirement) for group in groups for requirement in group}


def imported(folder: str) -> set[str]:
    """Top-level modules imported anywhere in a folder, the standard library's aside."""
    found = set()
    for file in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    ours = [ROOT / folder, ROOT / "benchmarks"]
    local = {"isthmus", *(file.stem for place in ours for file in place.rglob("*.py"))}
    return found - local - set(sys.stdlib_module_names)


def undeclared(folder: str, *extras: str) -> dict[str, list[str]]:
    owners, known = packages_distributions(), declared(*extras)
    return {
        module: owners.get(module, [])
        for module in imported(folder)
        if not known & {plain(name) for name in owners.get(module, [])}
    }


def test_what_the_package_imports_is_declared():
    assert undeclared("src", "track", "postgres", "search") == {}


def test_what_the_tests_import_is_declared():
    assert undeclared("tests", "dev") == {}


def test_every_declared_dependency_has_a_tested_version():
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", pin) for pin in pins)
    assert declared("track", "postgres", "search", "dev") <= {plain(pin) for pin in pins}


def test_the_package_tells_the_version_it_is_built_as():
    from importlib.metadata import version

    assert version("isthmus") == PROJECT["version"]
