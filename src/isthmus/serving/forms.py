"""What the rarely called routes take and give, as pydantic models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from isthmus.online.catalogue import OWN

Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Value = Annotated[str, StringConstraints(max_length=1000)] | bool | float
Attributes = Annotated[dict[Id, Value], Field(max_length=50)]


class Form(BaseModel):
    """No unknown fields, and no text that a database cannot hold."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="after")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        return storable(value)


def storable(value: Any) -> Any:
    """The value; a ValueError for texts in it with NUL or half a surrogate pair, however deep."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("holds a character that cannot be stored")
    elif isinstance(value, dict):
        storable([*value, *value.values()])
    elif isinstance(value, list):
        for inner in value:
            storable(inner)
    return value


class ItemForm(Form):
    """An item as it is registered; it replaces what was known of it but its behaviour."""

    domain: Id
    item_id: Id
    title: Annotated[str, StringConstraints(max_length=1000)] | None = None
    category: Annotated[str, StringConstraints(max_length=1000)] | None = Field(
        None, description="A path, levels joined by ' > '."
    )
    text: Annotated[str, StringConstraints(max_length=20_000)] | None = Field(
        None, description="What the language model reads; none: the title."
    )
    attributes: Attributes = Field(default_factory=dict, description="For filters: price, brand.")

    @field_validator("attributes")
    @classmethod
    def _own_names(cls, value: Attributes) -> Attributes:
        for name in value:
            if name in OWN:
                raise ValueError(
                    f"{name!r} is a name of the item's own, not of an attribute: give it beside "
                    "'attributes', or under another name"
                )
        return value


class ItemsForm(Form):
    """Items to register."""

    items: Annotated[list[ItemForm], Field(min_length=1, max_length=1000)]


class ItemsTaken(BaseModel):
    """Items were registered, durably."""

    registered: int
    recommendable: bool = Field(description="False: their texts are still being read.")


class ItemKey(Form):
    """One item."""

    domain: Id
    item_id: Id


class ItemShown(BaseModel):
    """An item as it is served."""

    domain: str
    item_id: str
    title: str | None
    category: str | None
    attributes: dict[str, Any]
    hidden: bool
    in_model: bool = Field(description="Whether the model was made with it.")


class ItemPage(BaseModel):
    """Items by id."""

    items: list[ItemShown]
    next_cursor: str | None


class UserForm(Form):
    """A person to register."""

    user_id: Id
    attributes: Attributes = Field(default_factory=dict)


class UserKey(Form):
    """One person."""

    user_id: Id


class UserShown(BaseModel):
    """What is held of a person."""

    user_id: str
    attributes: dict[str, Any]
    hidden: bool
    in_model: bool = Field(description="Whether the model was made with them.")
    registered: bool


class UserPage(BaseModel):
    """People by id."""

    users: list[UserShown]
    next_cursor: str | None


class Receipt(BaseModel):
    """What was deleted of a person."""

    log_id: str
    offset: int
    time: float
    person: str = Field(description="A keyed hash of the id.")
    events: int
    impressions: int
    purged: bool = Field(
        description="Whether the log's database has nothing of them left in its own files; see "
        "online.md."
    )
    digest: str
    elsewhere: dict[str, int] = Field(description="Traces removed, by what held them.")
    in_model: bool = Field(
        description="True: the present model was made with them. Nothing of theirs is looked up "
        "any more, and the next version is made without them."
    )


class SimilarForm(Form):
    """Items like an item."""

    domain: Id
    item_id: Id
    to: Id | None = Field(None, description="Domain to look in; none: the same.")
    k: int = Field(10, ge=1, le=100)


class SimilarItem(BaseModel):
    """An item that is like another."""

    rank: int
    item_id: str
    title: str | None
    category: str | None
    score: float
    parts: dict[str, float]


class SimilarAnswer(BaseModel):
    """The nearest items."""

    recommendation_id: str
    model_version: str
    domain: str
    fallback: bool = Field(
        description="True: nobody has chosen the item yet, so its text alone speaks."
    )
    items: list[SimilarItem]


class HistoryEntry(Form):
    """An item of a session."""

    domain: Id
    item_id: Id


class ProfileForm(Form):
    """Whose profile: a person's, or a session's."""

    user_id: Id | None = None
    history: Annotated[list[HistoryEntry], Field(max_length=500)] = Field(default_factory=list)


class ProfileAnswer(BaseModel):
    """What somebody cares about; see `isthmus.recommender.Profile`."""

    model_version: str
    user: str | None
    known: bool
    n_events: int
    domains: list[dict[str, Any]]
    suggestions: list[dict[str, Any]]


class DomainShown(BaseModel):
    """A catalogue."""

    name: str
    items: int
    offered: int
    attributes: list[str]
    gate: str = Field(description="What the gate decided, in words.")


class Domains(BaseModel):
    """All catalogues."""

    model_version: str
    domains: list[DomainShown]


class VersionShown(BaseModel):
    """A version of the model."""

    version: str
    live: bool
    written: str
    kind: str
    reason: str
    log_offset: int | None


class Versions(BaseModel):
    """Versions that are kept, the latest first."""

    answering: str = Field(description="The version that answers in this worker.")
    live: str = Field(description="The version that is to answer.")
    problem: str | None = Field(description="Why the live one does not answer yet.")
    versions: list[VersionShown]


class VersionForm(Form):
    """A version to put live."""

    version: Id


class Switched(BaseModel):
    """Another version is live; workers take it over as soon as it is warm."""

    live: str


class ExportForm(Form):
    """A batch export."""

    domain: Id
    k: int = Field(10, ge=1, le=100)


class ExportShown(BaseModel):
    """An export."""

    export_id: str
    domain: str
    k: int
    model_version: str
    begun: float = Field(description="Unix seconds.")
    state: str
    rows: int
    problem: str | None


class ExportList(BaseModel):
    """Those that are done, and those of this worker that run or failed, the latest first."""

    exports: list[ExportShown]


class Done(BaseModel):
    """It was done, durably."""

    done: bool = True


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Readiness(BaseModel):
    """Whether it is warm, and with what it answers."""

    ready: bool
    model_version: str
    problem: str | None
