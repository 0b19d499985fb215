"""Events and impressions with short names."""

from collections.abc import Callable
from typing import Any

from isthmus.online.events import Event, Impression
from isthmus.online.log import EventLog

Opener = Callable[..., EventLog]
"""What the fixture `opened` is."""

NOW = 1_700_000_000.0
"""A moment that has passed."""


def event(event_id: str, user_id: str = "ann", **others: Any) -> Event:
    given = {"domain": "books", "item_id": "b1", "time": NOW, **others}
    return Event(event_id, user_id, **given)


def impression(event_id: str, user_id: str = "ann", **others: Any) -> Impression:
    given = {"domain": "books", "item_id": "b1", "time": NOW, "recommendation_id": "r1", "rank": 1}
    return Impression(event_id, user_id, **{**given, **others})
