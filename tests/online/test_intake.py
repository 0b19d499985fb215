"""Bad input: an outcome for each record, and the others are taken."""

from __future__ import annotations

import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_samples import NOW, Opener, event, impression
from pydantic import ValidationError

from isthmus.config import OnlineConfig
from isthmus.online.events import Event, Outcome
from isthmus.online.intake import Limits, refusal
from isthmus.online.log import EventLog

HUGE = 10**400

BAD = [
    (event(""), Outcome.EMPTY_ID),
    (event("x", "  "), Outcome.EMPTY_ID),
    (event("x", domain=""), Outcome.EMPTY_ID),
    (event("x", item_id=""), Outcome.EMPTY_ID),
    (event("x", kind=""), Outcome.EMPTY_ID),
    (event("x", recommendation_id=""), Outcome.EMPTY_ID),
    (impression("x", recommendation_id=""), Outcome.EMPTY_ID),
    (event("x" * 257), Outcome.LONG_ID),
    (event("x", "u" * 257), Outcome.LONG_ID),
    (event("x", kind="k" * 257), Outcome.LONG_ID),
    (event("x", item_id=7), Outcome.MALFORMED),
    (event("x", item_id="a\0b"), Outcome.MALFORMED),
    (event("x", item_id="\ud800"), Outcome.MALFORMED),
    (event("x", time="yesterday"), Outcome.MALFORMED),
    (event("x", time=None), Outcome.MALFORMED),
    (event("x", rating="5"), Outcome.MALFORMED),
    (event("x", weight=True), Outcome.MALFORMED),
    (impression("x", rank=1.5), Outcome.MALFORMED),
    (impression("x", rank="first"), Outcome.MALFORMED),
    (impression("x", propensity="half"), Outcome.MALFORMED),
    (impression("x", recommendation_id=None), Outcome.MALFORMED),
    ({"event_id": "x"}, Outcome.MALFORMED),
    (None, Outcome.MALFORMED),
    (event("x", rating=math.nan), Outcome.BAD_NUMBER),
    (event("x", rating=math.inf), Outcome.BAD_NUMBER),
    (event("x", time=math.nan), Outcome.BAD_NUMBER),
    (event("x", time=-math.inf), Outcome.BAD_NUMBER),
    (event("x", time=HUGE), Outcome.BAD_NUMBER),
    (event("x", weight=-1.0), Outcome.BAD_NUMBER),
    (event("x", weight=math.nan), Outcome.BAD_NUMBER),
    (impression("x", rank=0), Outcome.BAD_NUMBER),
    (impression("x", rank=2**31), Outcome.BAD_NUMBER),
    (impression("x", rank=HUGE), Outcome.BAD_NUMBER),
    (impression("x", propensity=0.0), Outcome.BAD_NUMBER),
    (impression("x", propensity=1.5), Outcome.BAD_NUMBER),
    (impression("x", propensity=math.nan), Outcome.BAD_NUMBER),
    (event("x", time=1e11), Outcome.FUTURE),
    (impression("x", time=1e11), Outcome.FUTURE),
    (event("x", time=-1.0), Outcome.TOO_OLD),
    (event("x", time=-1e15), Outcome.TOO_OLD),
    (impression("x", time=-1e300), Outcome.TOO_OLD),
]


@pytest.mark.parametrize(("record", "outcome"), BAD)
def test_each_kind_of_bad_record_has_its_outcome(record: Event, outcome: Outcome) -> None:
    assert refusal(record, Limits(), NOW) is outcome
    assert not outcome.acknowledged
    assert outcome.message.endswith(".")


@pytest.mark.parametrize(
    "record",
    [
        event("x" * 256, rating=0.0, weight=0.0),
        event("x", time=int(NOW), rating=5),
        event("x", time=NOW + 300),
        event("x", time=0.0),
        impression("x", rank=2**31 - 1, propensity=1),
    ],
)
def test_what_is_only_just_good_is_taken(record: Event, log: EventLog) -> None:
    assert refusal(record, Limits(), NOW) is None
    assert log.append([record]) == [Outcome.ACCEPTED]
    assert [logged.record for logged in log.read()] == [record]


def test_nothing_from_before_1970_gets_into_a_log(log: EventLog) -> None:
    outcomes = log.append([event("stone-age", time=-1e15), event("e")])
    assert outcomes == [Outcome.TOO_OLD, Outcome.ACCEPTED]
    assert "before 1970" in outcomes[0].message
    assert log.contents().oldest == NOW


def test_clock_skew_age_length_and_kinds_are_configured() -> None:
    settings = {"max_skew_seconds": 10, "max_age_days": 1, "max_id_chars": 3, "kinds": ["buy"]}
    limits = Limits.of(OnlineConfig(**settings))

    def found(**fields: object) -> Outcome | None:
        return refusal(event("x", **{"kind": "buy", **fields}), limits, NOW)

    assert found(domain="bks", time=NOW + 10) is None
    assert found(domain="bks", time=NOW + 10.1) is Outcome.FUTURE
    assert found(domain="bks", time=NOW - 86_400) is None
    assert found(domain="bks", time=NOW - 86_401) is Outcome.TOO_OLD
    assert found(domain="books") is Outcome.LONG_ID
    assert found(domain="bks", kind="see") is Outcome.UNKNOWN_KIND
    # Impressions have no kind.
    assert refusal(impression("x", domain="bks", recommendation_id="r"), limits, NOW) is None


def test_the_longest_ids_that_can_be_configured_fit_the_indices(place: str, opened: Opener) -> None:
    draw = random.Random(0)
    name = ["".join(chr(draw.randrange(0x10000, 0x30000)) for _ in range(512)) for _ in range(4)]
    record = event(name[0], name[1], domain=name[2], item_id=name[3], kind=name[0])
    log = opened(place, max_id_chars=512)
    assert log.append([record]) == [Outcome.ACCEPTED]
    assert log.history(name[1]) == [record]
    with pytest.raises(ValidationError):
        OnlineConfig(max_id_chars=513)


def test_ten_thousand_in_one_batch_with_one_bad(log: EventLog) -> None:
    batch = [event(f"e{i}", f"person-{i % 100}") for i in range(10_000)]
    batch[5_000] = event("bad", rating=math.nan)
    outcomes = log.append(batch)
    assert outcomes.pop(5_000) is Outcome.BAD_NUMBER
    assert outcomes == [Outcome.ACCEPTED] * 9_999
    assert log.head() == 9_999
    held = [logged.record for logged in log.read(limit=20_000)]
    del batch[5_000]
    assert held == batch


def test_events_out_of_order_are_taken_as_they_come(log: EventLog) -> None:
    log.append([event("late", time=NOW), event("early", time=NOW - 1e6)])
    assert [logged.record.event_id for logged in log.read()] == ["late", "early"]


def test_the_clock_is_that_of_the_log(place: str, opened: Opener) -> None:
    log = opened(place, max_skew=5.0)
    assert log.append([event("e", time=time.time() + 3600)]) == [Outcome.FUTURE]
    assert log.append([event("e", time=time.time() + 1)]) == [Outcome.ACCEPTED]


@given(
    st.builds(
        Event,
        *[st.one_of(st.text(max_size=5), st.none(), st.integers())] * 4,
        time=st.one_of(st.floats(), st.integers(), st.none(), st.text(max_size=2)),
        kind=st.one_of(st.text(max_size=3), st.none()),
        rating=st.one_of(st.floats(), st.none(), st.booleans()),
        weight=st.one_of(st.floats(), st.integers()),
    )
)
def test_whatever_comes_there_is_an_answer(record: Event) -> None:
    outcome = refusal(record, Limits(), NOW)
    if outcome is None:
        assert all(
            isinstance(text, str) and text.strip() and text.encode()
            for text in (
                record.event_id,
                record.user_id,
                record.domain,
                record.item_id,
                record.kind,
            )
        )
        assert math.isfinite(record.time)
        assert record.rating is None or math.isfinite(record.rating)
        assert record.weight >= 0
