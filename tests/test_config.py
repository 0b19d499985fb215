"""The configuration: what it accepts, how it explains the rest, and that it is documented."""

import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from isthmus.config import Config
from isthmus.errors import ConfigError

TOML = """
target = "films"
[domains.books]
interactions = "books.csv"
[domains.books.events]
user = "reader"
[domains.films]
interactions = "films/events.parquet"
items = "/data/films.parquet"
[training]
epochs = 7
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "isthmus.toml"
    path.write_text(TOML)
    return path


def sections(model: type[BaseModel] = Config, place: str = "") -> dict[str, type[BaseModel]]:
    """Every section by its place; a domain stands for all."""
    found = {place: model}
    for name, field in model.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                inner = f"{name}.books" if name == "domains" else name
                found |= sections(kind, f"{place}.{inner}".strip("."))
    return found


# Reading


def test_a_file_is_read_with_paths_relative_to_it(file):
    config = Config.load(file)
    assert config.target == "films"
    assert config.training.epochs == 7
    assert config.domains["books"].events.user == "reader"
    assert config.domains["books"].events.item == "item_id"
    assert config.domains["books"].interactions == file.parent / "books.csv"
    assert config.domains["films"].interactions == file.parent / "films/events.parquet"
    assert config.domains["films"].items == Path("/data/films.parquet")


def test_paths_in_lists_and_from_overrides_are_resolved_alike(file):
    overrides = [
        'domains.books.corpus=["news.txt"]',
        "language.cache=vectors",
        "people.users=u.csv",
    ]
    config = Config.load(file, overrides=overrides)
    assert config.domains["books"].corpus == [file.parent / "news.txt"]
    assert config.language.cache == file.parent / "vectors"
    assert config.people.users == file.parent / "u.csv"


def test_home_is_understood(file):
    config = Config.load(file, overrides=["language.cache=~/vectors"])
    assert config.language.cache == Path.home() / "vectors"


def test_a_configuration_cannot_be_changed_in_place(file):
    with pytest.raises(ValidationError):
        Config.load(file).training.epochs = 3


# Overrides


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.epochs=5", 5),
        ("training.learning_rate=1e-3", 1e-3),
        ("blend.gate=false", False),
        ("name=tuesday", "tuesday"),
        ('name="two words"', "two words"),
        ("name=a=b", "a=b"),
        ("language.model=some/model-v2", "some/model-v2"),
        ("split.quantiles=[0.7, 0.9]", (0.7, 0.9)),
        ('blend.parts=["neural", "text"]', ["neural", "text"]),
        ("evaluation.cutoffs=[10]", [10]),
        ("training.domain_weights.books=2", 2.0),
        ("training.threads=2", 2),
        ("domains.books.events.rating=stars", "stars"),
        ("split.kind=leave-one-out", "leave-one-out"),
        (" training.epochs =5", 5),
    ],
)
def test_overrides_of_every_type(file, override, value):
    found = Config.load(file, overrides=[override])
    for part in override.partition("=")[0].strip().split("."):
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_a_later_override_wins(file):
    assert (
        Config.load(file, overrides=["training.epochs=5", "training.epochs=6"]).training.epochs == 6
    )


def test_an_override_makes_a_copy_and_keeps_paths(file):
    config = Config.load(file)
    changed = config.override("training.epochs=5", "target=books")
    assert (config.training.epochs, config.target) == (7, "films")
    assert (changed.training.epochs, changed.target) == (5, "books")
    assert changed.domains == config.domains


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "'training.epochs' is not KEY=VALUE"),
        ("training.epochs.x=1", "'epochs' holds a value, not a section"),
        ("training.epochs=0", r"training\.epochs: .*greater than or equal to 1, found 0"),
        ("training.epochs=many", r'training\.epochs: .*valid integer.*found "many"'),
        ("training.epochs=1.5", r"training\.epochs: .*valid integer.*found 1\.5"),
        ("blend.gate=perhaps", r'blend\.gate: .*valid boolean.*found "perhaps"'),
        ("split.kind=weekly", r"split\.kind: .*'global' or 'leave-one-out', found \"weekly\""),
        ("training=5", r"training: .*found 5"),
        ('blend.parts="neural"', r"blend\.parts: .*valid list"),
        ("model.layer=3", r"unknown key 'model\.layer'\. Did you mean 'layers'"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(file, override, message):
    with pytest.raises(ConfigError, match=message):
        Config.load(file, overrides=[override])


# Mistakes in the file


def test_every_section_is_known_to_the_tests():
    assert {"", "domains.books", "domains.books.events", "domains.books.catalogue"} < set(
        sections()
    )
    assert {"people", "cleaning", "split", "language", "model", "training"} < set(sections())


@pytest.mark.parametrize("place", sections())
def test_an_unknown_key_suggests_the_near_one_in_every_section(file, place):
    right = next(name for name in reversed(sections()[place].model_fields) if len(name) > 3)
    wrong = right[:-2] + right[-1] + right[-2] if right[-1] != right[-2] else right + "x"
    key = f"{place}.{wrong}".strip(".")
    with pytest.raises(ConfigError, match=rf"unknown key '{key}'\. Did you mean .*'{right}'"):
        Config.load(file, overrides=[f"{key}=1"])


def test_the_message_names_the_file(file):
    file.write_text(TOML.replace("epochs", "epoch"))
    with pytest.raises(ConfigError) as caught:
        Config.load(file)
    assert str(caught.value) == f"{file}: unknown key 'training.epoch'. Did you mean 'epochs'?"


@pytest.mark.parametrize(
    "override",
    [
        "training.epoch=2",
        "training.epochs=many",
        "training=5",
        "target=film",
        "model.heads=3",
        "evaluation.cutoffs=[0, 10]",
        "transfer.strategy='nosuch'",
    ],
)
def test_the_message_names_the_override_that_is_wrong_and_not_the_file(file, override):
    overrides = ["training.batch_events=64", override, "seed=3"]
    with pytest.raises(ConfigError) as caught:
        Config.load(file, overrides=overrides)
    assert caught.value.where == f"--set {override}"


def test_the_message_names_the_file_where_other_keys_are_overridden(file):
    file.write_text(TOML.replace("epochs", "epoch"))
    with pytest.raises(ConfigError) as caught:
        Config.load(file, overrides=["training.patience=2", "seed=3"])
    assert caught.value.where == str(file)
    file.write_text(TOML.replace("epochs = 7", "epochs = 'many'"))
    for override, where in (
        ("seed=3", str(file)),
        ("training.epochs=x", "--set training.epochs=x"),
    ):
        with pytest.raises(ConfigError, match=r"training\.epochs: ") as caught:
            Config.load(file, overrides=[override])
        assert caught.value.where == where


def test_a_target_that_is_no_domain(file):
    with pytest.raises(ConfigError, match=r"target 'film' is no domain.*Did you mean 'films'"):
        Config.load(file, overrides=["target=film"])


def test_a_gate_that_opens_before_it_starts_to(file):
    with pytest.raises(ConfigError, match="gate_from must be below gate_level"):
        Config.load(file, overrides=["blend.gate_from=0.96"])


def test_no_such_file(tmp_path):
    with pytest.raises(
        ConfigError, match=r"nowhere\.toml: no such configuration file.*isthmus init"
    ):
        Config.load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("content", [b"target = ", b"user_id,item_id\n1,2\n", b"\xff\xfe\x00"])
def test_not_toml(file, content):
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="not valid TOML"):
        Config.load(file)


# Documentation


@pytest.mark.parametrize("place", sections())
def test_every_field_is_explained_where_it_is_defined(place):
    model = sections()[place]
    assert model.__doc__
    for name, field in model.model_fields.items():
        is_section = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert is_section or field.description, f"{place}.{name}"


def test_an_empty_file_gives_the_defaults(tmp_path):
    file = tmp_path / "isthmus.toml"
    file.write_text("")
    assert Config.load(file) == Config()
    assert tomllib.loads("") == Config().model_dump(exclude_defaults=True)


@pytest.mark.parametrize("name", [".shop", "a/b", "a\\b", ""])
def test_the_rule_of_a_runs_name_is_said_in_words(name):
    with pytest.raises(ConfigError, match="no slash in it and no dot in front") as caught:
        Config.parse({"name": name})
    assert repr(name) in str(caught.value)


def test_an_override_of_a_domain_that_is_not_there_names_the_near_one(tmp_path):
    path = tmp_path / "isthmus.toml"
    path.write_text("[domains.gear]\ninteractions = 'gear.csv'\n", "utf-8")
    with pytest.raises(ConfigError) as caught:
        Config.load(path, overrides=["domains.geer.events.time=when"])
    assert str(caught.value) == (
        "--set domains.geer.events.time: there is no domain 'geer'. Did you mean 'gear'?"
    )
    new = ["domains.films.events.time=when", "domains.films.interactions=films.csv"]
    assert set(Config.load(path, overrides=new).domains) == {"gear", "films"}
    whole = ["domains.films={interactions='films.csv'}", "domains.films.events.time=when"]
    assert set(Config.load(path, overrides=whole).domains) == {"gear", "films"}
