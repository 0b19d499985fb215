"""A log becomes a dataset, in pieces or at once; foreign logs and gaps are refused."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from log_samples import NOW, Opener, event, impression

from isthmus.config import Config
from isthmus.data.build import dataset_from_frames
from isthmus.data.dataset import Dataset
from isthmus.data.frames import DomainFrames
from isthmus.data.splits import leave_one_out
from isthmus.errors import LogError
from isthmus.online.events import Event, Impression
from isthmus.online.log import EventLog
from isthmus.online.replay import erased_people, place_in, replay
from isthmus.recommender.storage import LogPosition


def shop() -> Dataset:
    rows = [(who, f"b{i}", NOW + 100 * i) for who in ("ann", "eve") for i in range(1, 6)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    films = pl.DataFrame({"item_id": ["f1", "f2"], "title": ["one", "two"]})
    frames = {"books": DomainFrames(events), "films": DomainFrames(items=films)}
    return dataset_from_frames(frames)[0]


def stream(n: int, seed: int = 0) -> list[Event | Impression]:
    draw = random.Random(seed)
    return [
        draw.choice([event, event, impression])(
            f"e{i}",
            draw.choice(["ann", "eve", "new", "jo"]),
            domain=draw.choice(["books", "films"]),
            item_id=draw.choice(["b1", "b9", "f1", "f7"]),
            time=NOW + draw.randrange(0, 1000, 50),
        )
        for i in range(n)
    ]


def facts(dataset: Dataset) -> dict[str, object]:
    """All that distinguishes two snapshots."""
    events = dataset.events
    arrays = ("offsets", "domain", "item", "time", "kind", "rating", "weight")
    return {
        "people": dataset.user_ids.to_list(),
        "items": [domain.items.rows() for domain in dataset.domains],
        "kinds": dataset.kinds,
        **{name: getattr(events, name).tobytes() for name in arrays},
    }


def test_replay_in_pieces_is_replay_at_once(log: EventLog) -> None:
    log.append(stream(200))
    whole = replay(log, shop(), None)
    n_events = sum(isinstance(logged.record, Event) for logged in log.read())
    assert len(whole.dataset.events) == len(shop().events) + n_events
    assert whole.position == LogPosition(log.id, 200)
    assert replay(log, shop(), None, upto=999).position == whole.position
    for cuts in ([1, 2, 3], [77], [50, 100, 150], [0, 199]):
        dataset, position = shop(), None
        for upto in [*cuts, None]:
            piece = replay(log, dataset, position, upto=upto)
            dataset, position = piece.dataset, piece.position
        assert facts(dataset) == facts(whole.dataset)
        assert position == whole.position


def test_replay_reads_beyond_one_batch(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.append(stream(50))
    read = log.read
    monkeypatch.setattr(type(log), "read", lambda self, after=0, limit=7: read(after, 7))
    few = replay(log, shop(), None)
    monkeypatch.undo()
    assert facts(few.dataset) == facts(replay(log, shop(), None).dataset)


def test_new_events_may_be_learnt_from_and_questions_stay(log: EventLog) -> None:
    log.append([event("e", time=NOW + 250, item_id="b9")])
    before = shop()
    split = leave_one_out(before)
    replayed = replay(log, before, None, split=split)
    assert replayed.split is not None
    (place,) = replayed.fresh
    assert replayed.dataset.events.time[place] == NOW + 250
    assert replayed.split.in_train[place]
    asked = replayed.dataset.events.time[replayed.split.test.position]
    assert np.array_equal(asked, before.events.time[split.test.position])


def test_an_erased_person_is_gone_from_the_snapshot_and_new_when_back(log: EventLog) -> None:
    log.append([event("e1", "eve"), event("e2", "new")])
    first = replay(log, shop(), None, split=leave_one_out(shop()))
    mark = log.erase("eve")
    log.erase("stranger")
    log.append([event("e3", "eve", time=mark.time + 1, item_id="b2")])
    second = replay(log, first.dataset, first.position, split=first.split)
    assert second.forgotten == ("eve",)
    ids = second.dataset.user_ids.to_list()
    row = first.dataset.user_index["eve"]
    assert "eve" not in ids[: first.dataset.n_users]
    assert second.dataset.events.offsets[row] == second.dataset.events.offsets[row + 1]
    again = second.dataset.user_index["eve"]
    assert again == first.dataset.n_users
    offsets = second.dataset.events.offsets
    assert offsets[again + 1] - offsets[again] == 1
    assert second.split is not None
    assert len(second.split.in_train) == len(second.dataset.events)
    assert row not in second.dataset.events.user[second.split.test.position]
    # What was done about it is not done again.
    assert replay(log, second.dataset, second.position).forgotten == ()


def test_who_was_erased_can_be_asked_of_any_ids(log: EventLog) -> None:
    log.append([event("e1")])
    assert erased_people(log, ["ann", "eve"]) == {}
    offset = log.erase("ann").offset
    assert erased_people(log, ["ann", "eve"]) == {"ann": offset}
    assert erased_people(log, ["ann"], after=offset) == {}


def test_what_would_not_count_in_a_table_does_not_count_in_the_log(log: EventLog) -> None:
    log.append(
        [
            event("good", kind="buy", rating=4.0),
            event("kind", kind="look"),
            event("low", kind="buy", rating=1.0),
            event("high", kind="buy", rating=9.0),
            event("where", domain="games"),
            event("who", "stranger", kind="buy"),
            event("what", item_id="b99", kind="buy"),
            impression("shown"),
        ]
    )
    config = Config.model_validate(
        {
            "domains": {
                "books": {
                    "interactions": "b.csv",
                    "keep_kinds": ["buy"],
                    "events": {"kind": "k", "rating": "r"},
                },
                "films": {},
            },
            "cleaning": {
                "min_rating": 2,
                "rating_scale": [0, 5],
                "unknown_users": "drop",
                "unknown_items": "drop",
            },
        }
    )
    replayed = replay(log, shop(), None, config=config)
    assert replayed.left_out == {
        "of kind 'look', which is not kept": 1,
        "rated below 2": 1,
        "rated outside the scale": 1,
        "of domain 'games', which the model does not have": 1,
        "of people whom the model does not know": 1,
        "on items that the catalogue does not have": 1,
    }
    assert replayed.unknown_domains == ("games",)
    assert len(replayed.fresh) == 1
    everything = replay(log, shop(), None)
    assert everything.left_out == {"of domain 'games', which the model does not have": 1}
    assert len(everything.fresh) == 6


def test_a_model_of_another_log_is_refused(log: EventLog, opened: Opener, tmp_path: Path) -> None:
    other = opened(tmp_path / "other.db")
    with pytest.raises(LogError, match=f"follows the event log {other.id}, and this is {log.id}"):
        replay(log, shop(), LogPosition(other.id, 0))


def test_a_log_put_back_to_an_older_state_is_refused(log: EventLog) -> None:
    log.append([event("e")])
    with pytest.raises(LogError, match=r"up to 2, and it ends at 1"):
        place_in(log, LogPosition(log.id, 2))
    assert place_in(log, LogPosition(log.id, 1)) == 1
    assert place_in(log, None) == 0


def test_a_gap_left_by_compaction_is_refused(log: EventLog) -> None:
    log.append([event("e1"), event("e2"), event("e3", time=NOW + 10)])
    log.compact(before=NOW + 1)
    with pytest.raises(LogError, match=r"records up to 2 have been compacted away"):
        replay(log, shop(), LogPosition(log.id, 1))
    assert len(replay(log, shop(), LogPosition(log.id, 2)).fresh) == 1
