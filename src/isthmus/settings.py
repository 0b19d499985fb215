"""How settings are read: overrides, relative paths, and one sentence on what is wrong.

Knows no setting by name; `isthmus.config` says which there are.
"""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import GenericAlias
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from isthmus.errors import ConfigError, did_you_mean

Section = TypeVar("Section", bound=BaseModel)


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one `a.b=c`; the value is read as TOML, and as text where it is not TOML."""
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"{override!r} is not KEY=VALUE", where="--set")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value
    *parents, last = key.strip().split(".")
    for parent in parents:
        raw = raw.setdefault(parent, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"{parent!r} holds a value, not a section", where=f"--set {key}")
    raw[last] = parsed


def explained(error: ValidationError, where: str, root: type[BaseModel]) -> ConfigError:
    """The first problem of a validation error of `root`, in one sentence."""
    first = error.errors()[0]
    place = [str(p) for p in first["loc"]]
    key = ".".join(place) or "the file"
    if first["type"] == "extra_forbidden":
        section: Any = root
        for part in place[:-1]:
            section = _section_at(section, part)
        known = list(section.model_fields) if section is not None else []
        return ConfigError(f"unknown key {key!r}", where=where, hint=did_you_mean(place[-1], known))
    message = str(first["msg"]).removeprefix("Value error, ")
    found = first.get("input")
    # Our own messages name what they found.
    named = first["type"] == "value_error" or isinstance(found, dict | BaseModel)
    shown = "" if named else f", found {json.dumps(found, default=str)}"
    return ConfigError(f"{key}: {message}{shown}", where=where)


def _section_at(section: Any, part: str) -> Any:
    """The model class of a nested section; names of a table step through to its values' class."""
    if isinstance(section, GenericAlias):
        return get_args(section)[1]
    field = section.model_fields.get(part) if section is not None else None
    annotation = field.annotation if field is not None else None
    if isinstance(annotation, GenericAlias) and get_origin(annotation) is dict:
        return annotation
    return annotation if isinstance(annotation, type) else None


def with_absolute_paths(config: Section, base: Path) -> Section:
    """The same settings with every path in them resolved against `base`."""

    def resolve(value: Any) -> Any:
        if isinstance(value, Path):
            return base / value.expanduser()
        if isinstance(value, BaseModel):
            return value.model_copy(
                update={name: resolve(getattr(value, name)) for name in type(value).model_fields}
            )
        if isinstance(value, dict):
            return {name: resolve(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [resolve(inner) for inner in value]
        return value

    resolved: Section = resolve(config)
    return resolved


def known_component(name: str, known: Sequence[str]) -> str:
    """The name, if it is one of `known` or a dotted path `mypkg.module:Class`.

    Raises:
        ValueError: it is neither; near names are named.
    """
    if name in known or (":" in name and all(name.split(":", 1))):
        return name
    raise ValueError(
        f"nothing is called {name!r}. {did_you_mean(name, known)}; "
        "a class of your own is written mypkg.module:Class"
    )


def component(name: str, known: Mapping[str, str], *, where: str) -> Any:
    """The class that a name in the configuration stands for.

    Args:
        name: a key of `known`, or a dotted path `mypkg.module:Class`.
        known: name → dotted path.
        where: the configuration key, for messages.

    Raises:
        ConfigError: no such name, or the path cannot be imported.
    """
    module, colon, attribute = known.get(name, name).partition(":")
    if not colon:
        raise ConfigError(
            f"nothing is called {name!r}", where=where, hint=did_you_mean(name, known)
        )
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{name!r} cannot be imported: {error}",
            where=where,
            hint="Install the package, or put its folder on PYTHONPATH",
        ) from None


def asked_for(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `offered` that a function or class names among its parameters."""
    return {
        name: offered[name] for name in inspect.signature(function).parameters if name in offered
    }
