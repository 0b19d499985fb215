"""What the log promises, on both databases."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from log_samples import NOW, Opener, event, impression

from isthmus.config import Config
from isthmus.errors import LogError, LogUnavailable, RequestError
from isthmus.online import sql_log
from isthmus.online.events import Event, Impression, Outcome
from isthmus.online.kept import not_kept
from isthmus.online.log import EventLog
from isthmus.online.sql_log import SqlLog

A, R, C = Outcome.ACCEPTED, Outcome.REPEATED, Outcome.CONFLICT


def records_of(log: EventLog, after: int = 0) -> list[Event | Impression]:
    return [logged.record for logged in log.read(after)]


def test_what_was_appended_is_read_back_as_it_was(log: EventLog) -> None:
    given = [
        event(
            "e1", kind="buy", rating=4.5, weight=2.0, recommendation_id="r0", time=NOW + 0.1234567
        ),
        impression("i1", rank=3, propensity=0.1),
        event("e2", "人", domain="电影", item_id="ёлка 🎄", rating=-0.0),
        impression("i2", time=0.25),
    ]
    before = time.time()
    assert log.append(given) == [A] * 4
    held = log.read()
    assert [logged.record for logged in held] == given
    assert [logged.offset for logged in held] == [1, 2, 3, 4]
    assert all(before <= logged.received <= time.time() for logged in held)
    assert log.head() == 4


def test_a_repeat_is_acknowledged_and_counted_once(
    log: EventLog, opened: Opener, place: str
) -> None:
    assert log.append([event("e"), event("e"), event("f")]) == [A, R, A]
    assert log.append([event("e")]) == [R]
    assert opened(place).append([event("f"), event("g")]) == [R, A]
    assert [record.event_id for record in records_of(log)] == ["e", "f", "g"]


@pytest.mark.parametrize(
    "other",
    [event("e", "eve"), event("e", time=NOW + 1), event("e", rating=1.0), impression("e")],
    ids=["person", "time", "rating", "impression"],
)
def test_the_same_id_with_other_content_is_a_conflict(log: EventLog, other: Event) -> None:
    assert log.append([event("e"), other]) == [A, C]
    assert log.append([other, event("e")]) == [C, R]
    assert records_of(log) == [event("e")]


def test_reading_goes_on_after_an_offset_and_stops_at_a_limit(log: EventLog) -> None:
    log.append([event(f"e{i}") for i in range(10)])
    assert [logged.offset for logged in log.read(after=4, limit=3)] == [5, 6, 7]
    assert log.read(after=10) == []


def test_a_glance_is_what_was_chosen_when_and_how_in_the_same_places(log: EventLog) -> None:
    rated = event("rated", rating=4.5, kind="buy", recommendation_id="r")
    log.append([event("e0"), impression("shown"), rated, event("films", domain="films")])
    for after, limit in ((0, 10), (1, 2), (4, 10)):
        read = log.read(after=after, limit=limit)
        assert log.glance(after=after, limit=limit) == [
            (
                *(logged.offset, int(isinstance(r := logged.record, Impression))),
                *(r.user_id, r.domain, r.item_id, r.time),
                *((r.kind, r.rating) if isinstance(r, Event) else (None, None)),
            )
            for logged in read
        ]


def test_a_history_is_the_latest_events_by_time_oldest_first(log: EventLog) -> None:
    log.append([event("late", time=NOW + 9), event("early", time=NOW - 9), impression("shown")])
    log.append([event("other", "eve"), event("films", domain="films"), event("same")])
    assert [e.event_id for e in log.history("ann")] == ["early", "films", "same", "late"]
    assert [e.event_id for e in log.history("ann", limit=2)] == ["same", "late"]
    assert log.history("nobody") == []
    assert log.choices("ann") == [(e.domain, e.item_id, e.time) for e in log.history("ann")]
    assert log.choices("ann", limit=2) == log.choices("ann")[2:]
    assert log.choices("nobody") == []


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("cleaning.min_rating=3",),
        ("cleaning.rating_scale=[2, 4]", "cleaning.min_rating=2.5"),
        ('domains.gear.keep_kinds=["buy", "click"]', "domains.films.keep_kinds=[]"),
        ('domains.gear={keep_kinds=["buy"], events={rating="r"}}', "cleaning.min_rating=3"),
    ],
)
def test_choices_are_the_latest_that_count_by_kind_and_rating(
    log: EventLog, overrides: tuple[str, ...]
) -> None:
    config = Config().override(*overrides)
    ways = itertools.product(
        ("gear", "films", "books"), ("view", "buy"), (None, 1.0, 2.5, 3.0, 5.0)
    )
    log.append(
        [
            event(f"e{n}", domain=domain, kind=kind, rating=rating, item_id=f"i{n}", time=NOW + n)
            for n, (domain, kind, rating) in enumerate(ways)
        ]
    )
    counted = [
        (e.domain, e.item_id, e.time) for e in log.history("ann") if not_kept(e, config) is None
    ]
    assert log.choices("ann", config=config) == counted
    # What does not count takes no place of what does.
    assert log.choices("ann", limit=3, config=config) == counted[-3:]
    assert (len(counted) == 30) == (not overrides)


def test_many_threads_share_commits_and_every_event_is_there_once(log: EventLog) -> None:
    commits = 0
    assert isinstance(log, SqlLog)
    commit = log._writer._commit

    def counted(items):
        nonlocal commits
        commits += 1
        time.sleep(0.01)
        return commit(items)

    log._writer._commit = counted

    def report(thread: int) -> list[Outcome]:
        return [log.append([event(f"{thread}-{i}")])[0] for i in range(10)]

    with ThreadPoolExecutor(16) as pool:
        outcomes = [o for some in pool.map(report, range(16)) for o in some]
    assert outcomes == [A] * 160
    held = log.read()
    assert [logged.offset for logged in held] == list(range(1, 161))
    assert len({logged.record.event_id for logged in held}) == 160
    assert commits < 100


def test_two_writers_give_offsets_without_gaps_in_the_order_of_commits(
    place: str, opened: Opener
) -> None:
    """As two processes would: each has its own connections and its own writer."""
    writers, reader = [opened(place), opened(place)], opened(place)
    done = threading.Event()
    seen: list[int] = []

    def follow() -> None:
        after = 0
        while True:
            last = done.is_set()
            for logged in reader.read(after):
                seen.append(logged.offset)
                after = logged.offset
            if last:
                return

    def report(which: int) -> None:
        for i in range(40):
            assert writers[which].append([event(f"{which}-{i}"), impression(f"{which}-i{i}")]) == [
                A,
                A,
            ]

    follower = threading.Thread(target=follow)
    follower.start()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(report, range(2)))
    done.set()
    follower.join()
    # One who only ever goes forward has missed nothing.
    assert seen == list(range(1, 161))


def test_what_is_submitted_and_cancelled_in_time_is_not_written(log: EventLog) -> None:
    assert isinstance(log, SqlLog)
    with log._database.writing():
        first = log.submit([event("a")])
        while not first.running():
            time.sleep(0.001)
        second, third = log.submit([event("b")]), log.submit([event("c")])
        assert second.cancel()
    assert (first.result(), third.result()) == ([A], [A])
    assert [record.event_id for record in records_of(log)] == ["a", "c"]


def test_too_much_waiting_is_refused_and_nothing_of_what_waits_is_lost(log: EventLog) -> None:
    assert isinstance(log, SqlLog)
    log._writer._most_waiting = 3
    with log._database.writing():
        first = log.submit([event("a")])
        while not first.running():
            time.sleep(0.001)
        second = log.submit([event("b"), event("c")])
        with pytest.raises(LogUnavailable, match="wait to be written") as full:
            log.submit([event("d"), event("e")])
    assert full.value.retry_after > 0
    assert (first.result(), second.result()) == ([A], [A, A])
    assert log.append([event("d"), event("e")]) == [A, A]


def test_closing_writes_what_waits_and_takes_nothing_more(place: str, opened: Opener) -> None:
    log = opened(place)
    futures = [log.submit([event(f"e{i}")]) for i in range(20)]
    log.close()
    assert [future.result() for future in futures] == [[A]] * 20
    with pytest.raises(LogUnavailable, match="closed"):
        log.append([event("late")])
    with pytest.raises(LogUnavailable, match="closed"):
        log.read()
    assert len(opened(place).read()) == 20


def test_a_record_is_found_by_the_id_it_was_reported_by(log: EventLog) -> None:
    given = [event("e1", kind="buy"), impression("i1", rank=3)]
    log.append(given)
    assert [log.find(record.event_id) for record in given] == given
    assert log.find("nobody's") is None


def test_a_log_keeps_its_name_and_two_logs_differ(
    log: EventLog, place: str, opened: Opener, tmp_path
) -> None:
    assert opened(place).id == log.id
    assert opened(tmp_path / "other.db").id != log.id


def test_erasing_a_person_leaves_nothing_but_a_mark(
    log: EventLog, place: str, opened: Opener
) -> None:
    log.append([event("e1"), impression("i1"), event("e2"), event("f", "eve")])
    receipt = log.erase("ann")
    assert (receipt.events, receipt.impressions, receipt.offset) == (2, 1, 5)
    assert receipt.log_id == log.id
    # PostgreSQL overwrites nothing, so it cannot promise that.
    assert receipt.purged is ("://" not in place)
    assert receipt.person == log.pseudonym("ann") != log.pseudonym("eve")
    assert "ann" not in repr(receipt)
    assert records_of(log) == [event("f", "eve")]
    assert log.history("ann") == []
    assert log.head() == 5
    (mark,) = opened(place).erased()
    assert (mark.offset, mark.person, mark.time) == (5, receipt.person, receipt.time)
    assert log.erased(after=5) == []
    # A second time there is nothing left, and that is said as well.
    again = log.erase("ann")
    assert (again.events, again.impressions, again.offset) == (0, 0, 6)
    assert again.digest != receipt.digest


def test_what_an_erased_person_did_before_is_refused_and_what_they_do_later_is_taken(
    log: EventLog, place: str, opened: Opener
) -> None:
    log.append([event("e1")])
    now = log.erase("ann").time
    late = [event("e1"), event("e0", time=now), event("e2", time=now + 1), event("f", "eve")]
    expected = [Outcome.ERASED, Outcome.ERASED, A, A]
    assert log.append(late) == expected
    # Another process learns of it from the log.
    assert opened(place).append(late) == [Outcome.ERASED, Outcome.ERASED, R, R]
    assert [record.event_id for record in records_of(log)] == ["e2", "f"]
    assert [logged.offset for logged in log.read()] == [3, 4]


def test_a_repeat_from_a_fast_clock_does_not_bring_an_erased_person_back(log: EventLog) -> None:
    ahead = time.time() + 100
    log.append([event("e1", time=ahead)])
    log.erase("ann")
    log.erase("ann")
    late = [event("e1", time=ahead), event("e2", time=ahead + 1)]
    assert log.append(late) == [Outcome.ERASED, A]


def test_compaction_takes_what_is_old_and_was_consumed(log: EventLog) -> None:
    log.append([event("old"), impression("shown"), event("new", time=NOW + 10), event("unread")])
    assert log.compacted() == 0
    report = log.compact(before=NOW + 5, consumed=3)
    assert (report.events, report.impressions, report.kept_unread) == (1, 1, 1)
    assert [record.event_id for record in records_of(log)] == ["new", "unread"]
    assert log.compacted() == 2
    assert log.head() == 4
    assert log.compact(before=NOW + 5).events == 1
    assert log.compacted() == 4


def test_compaction_goes_through_a_long_log_in_parts(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_log, "_MOST_COMPACTED", 4)
    times = [NOW + 10 * (i % 3 == 0) for i in range(25)]
    log.append([event(f"e{i}", time=moment) for i, moment in enumerate(times)])
    assert log.compact(before=NOW + 5, consumed=23).events == 15
    assert log.compacted() == 23
    kept = [i for i, moment in enumerate(times) if moment > NOW or i >= 23]
    assert [record.event_id for record in records_of(log)] == [f"e{i}" for i in kept]


def test_what_was_compacted_away_is_not_taken_again(log: EventLog) -> None:
    log.append([event("old"), event("new", time=NOW + 10)])
    log.compact(before=NOW + 5)
    log.compact(before=NOW - 5)
    assert log.append([event("old"), event("new", time=NOW + 10)]) == [Outcome.TOO_OLD, R]
    assert log.append([event("as-old", time=NOW + 5)]) == [A]


def test_compaction_of_what_is_yet_to_come_is_refused(log: EventLog) -> None:
    with pytest.raises(RequestError, match="passed"):
        log.compact(before=time.time() + 60)


def test_offsets_are_never_given_twice(log: EventLog, place: str, opened: Opener) -> None:
    log.append([event("e1"), event("e2")])
    log.erase("ann")
    log.compact(before=time.time())
    log.close()
    again = opened(place)
    again.append([event("e3", time=time.time())])
    assert [logged.offset for logged in again.read()] == [4]


def test_a_log_opened_before_a_fork_says_so(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(LogError, match="before a fork"):
        log.append([event("e")])
