"""Write docs/configuration.md from the models in `isthmus.config`; a test holds them together.

python docs/write_configuration.py
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from isthmus.config import Config, DomainConfig, EventColumns, ItemColumns

HEAD = """# The configuration

One TOML file. `isthmus init FILES…` writes a first one; `--set section.key=value` overrides a key
for one command; an unknown key is an error that names the near ones. Paths are relative to the
file. Generated from `isthmus.config`.
"""

SECTIONS: dict[str, type[BaseModel]] = {
    "": Config,
    "domains.NAME": DomainConfig,
    "domains.NAME.events": EventColumns,
    "domains.NAME.catalogue": ItemColumns,
}


def document() -> str:
    """The whole page."""
    sections = {**SECTIONS, **_nested(Config)}
    return "\n".join([HEAD, *(_section(name, model) for name, model in sections.items())])


def _nested(model: type[BaseModel], path: str = "") -> dict[str, type[BaseModel]]:
    """Sections within a section by their dotted names, each before its own."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[path + name] = field.annotation
            found |= _nested(field.annotation, f"{path}{name}.")
    return found


def _section(name: str, model: type[BaseModel]) -> str:
    title = f"## `[{name}]`" if name else "## The file itself"
    lines = [
        title,
        "",
        inspect.cleandoc(model.__doc__ or ""),
        "",
        "| key | default | what |",
        "|---|---|---|",
    ]
    for key, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            continue
        default = field.get_default(call_default_factory=True)
        lines.append(f"| `{key}` | {_shown(default)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, dict | list | tuple) and not default:
        return "empty"
    if isinstance(default, dict):
        return ", ".join(f"`{key}`" for key in default)
    return f"`{list(default) if isinstance(default, tuple) else default}`"


if __name__ == "__main__":
    (Path(__file__).parent / "configuration.md").write_text(document(), encoding="utf-8")
