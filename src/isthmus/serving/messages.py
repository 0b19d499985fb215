"""What the hot routes take and give, as msgspec structs; the OpenAPI document is made from them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

Id = Annotated[str, Meta(min_length=1, max_length=256)]
MOST_ITEMS, MOST_HISTORY, MOST_EXCLUDED, MOST_DOMAINS, MOST_EVENTS = 100, 500, 1000, 50, 10_000


class ItemRef(Struct, forbid_unknown_fields=True):
    """An item by domain and raw id."""

    domain: Id
    item_id: Id


class Recommend(Struct, forbid_unknown_fields=True, kw_only=True):
    """A question: what would this person want next?"""

    user_id: Annotated[Id | None, Meta(description="Who asks; anybody may, known or not.")] = None
    history: Annotated[
        list[ItemRef],
        Meta(max_length=MOST_HISTORY, description="What they just did, oldest first."),
    ] = []
    domains: Annotated[
        list[Id],
        Meta(max_length=MOST_DOMAINS, description="Where to recommend; none: everywhere."),
    ] = []
    k: Annotated[int, Meta(ge=1, le=MOST_ITEMS, description="Most items of each domain.")] = 10
    filter: Annotated[
        str | None, Meta(description='Such as: category in ["tea"] and price < 20')
    ] = None
    exclude: Annotated[
        list[Id], Meta(max_length=MOST_EXCLUDED, description="Item ids not to be offered.")
    ] = []
    diversity: Annotated[
        float, Meta(ge=0, le=1, description="0: the best; 1: as unlike each other as can be.")
    ] = 0.0
    seen: Annotated[bool, Meta(description="Offer items of their own history too.")] = False
    explain: Annotated[bool, Meta(description="Say of each item what carried it.")] = False
    cursor: Annotated[
        Annotated[str, Meta(max_length=20_000)] | None,
        Meta(description="`next_cursor` of a list, for its next page."),
    ] = None


class Offered(Struct, omit_defaults=True):
    """An item of a list."""

    rank: int
    item_id: str
    title: str | None
    category: str | None
    score: Annotated[float, Meta(description="Relative to the average item.")]
    parts: Annotated[dict[str, float], Meta(description="They add up to the score.")]
    why: str | None = None


class Listing(Struct):
    """The best items of one domain."""

    domain: str
    items: list[Offered]
    basis: Annotated[str, Meta(description="What the list rests on, in words.")]
    fallback: Annotated[bool, Meta(description="True: nothing personal is in it.")]
    next_cursor: str | None = None


class Recommendation(Struct):
    """An answer."""

    recommendation_id: Annotated[
        str, Meta(description="To be named by impressions and events that it led to.")
    ]
    model_version: str
    lists: list[Listing]


class EventIn(Struct, forbid_unknown_fields=True, kw_only=True):
    """Something a person did, or (type `impression`) was shown."""

    event_id: Annotated[str, Meta(description="Chosen by you; a repeat is counted once.")]
    user_id: str
    domain: str
    item_id: str
    type: Literal["event", "impression"] = "event"
    time: Annotated[
        float | None,
        Meta(description="Unix seconds; none: now, or as first reported where it is a repeat."),
    ] = None
    kind: Annotated[str, Meta(description="Events: what was done.")] = "event"
    rating: Annotated[float | None, Meta(description="Events only.")] = None
    weight: Annotated[float, Meta(description="Events only.")] = 1.0
    recommendation_id: str | None = None
    rank: Annotated[int | None, Meta(description="Impressions: place in the list.")] = None
    propensity: Annotated[float | None, Meta(description="Impressions: chance of the place.")] = (
        None
    )


class EventResult(Struct):
    """What became of an event."""

    event_id: Annotated[str | None, Meta(description="None: it could not be read.")]
    outcome: str
    message: str


class EventBatch(Struct, forbid_unknown_fields=True):
    """Many events; one that is wrong does not keep the others out."""

    events: Annotated[list[msgspec.Raw], Meta(max_length=MOST_EVENTS)]


class EventResults(Struct):
    """One result per event, in order."""

    acknowledged: int
    refused: int
    results: list[EventResult]


class Problem(Struct):
    """What is wrong, where, and what to do."""

    what: str
    where: str | None = None
    hint: str | None = None


class ErrorAnswer(Struct):
    """Every answer that is no success."""

    error: Problem
