"""The log against a model of it in memory, over whatever anybody may do in whatever order."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from log_samples import NOW, event, impression

from isthmus.online.events import Event, Impression, Logged, Outcome
from isthmus.online.log import open_log
from postgres_cluster import Cluster

PEOPLE = ("ann", "eve")
RECORDS = st.builds(
    lambda make, number, person, hours, item: make(
        f"e{number}", person, time=NOW + 3600 * hours, item_id=item
    ),
    st.sampled_from([event, impression]),
    st.integers(0, 12),
    st.sampled_from(PEOPLE),
    st.integers(0, 3),
    st.sampled_from(["b1", "b2"]),
)


class Model(RuleBasedStateMachine):
    """What the log must do, in lists and dictionaries."""

    place: str | Path

    @initialize()
    def begin(self) -> None:
        self.log = open_log(self.where())
        self.held: dict[str, tuple[int, Event | Impression]] = {}
        self.head = 0
        self.floor = float("-inf")
        self.compacted = 0
        self.erased: dict[str, int] = {}
        self.marks = 0

    def where(self) -> str | Path:
        raise NotImplementedError

    @rule(batch=st.lists(RECORDS, max_size=6))
    def append(self, batch: list[Event | Impression]) -> None:
        assert self.log.append(batch) == [self.expected(record) for record in batch]

    def expected(self, record: Event | Impression) -> Outcome:
        if record.event_id in self.held:
            same = self.held[record.event_id][1] == record
            return Outcome.REPEATED if same else Outcome.CONFLICT
        if record.time < self.floor:
            return Outcome.TOO_OLD
        # Everything here happened before any erasure: those are of today.
        if record.user_id in self.erased:
            return Outcome.ERASED
        self.head += 1
        self.held[record.event_id] = (self.head, record)
        return Outcome.ACCEPTED

    @rule(person=st.sampled_from(PEOPLE))
    def erase(self, person: str) -> None:
        receipt = self.log.erase(person)
        theirs = [r for _, r in self.held.values() if r.user_id == person]
        assert receipt.events == sum(isinstance(record, Event) for record in theirs)
        assert receipt.impressions == sum(isinstance(record, Impression) for record in theirs)
        self.held = {k: v for k, v in self.held.items() if v[1].user_id != person}
        self.head += 1
        self.erased[person] = self.head
        self.marks += 1
        assert receipt.offset == self.head

    @rule(hours=st.integers(0, 4), consumed=st.none() | st.integers(0, 20))
    def compact(self, hours: int, consumed: int | None) -> None:
        before = NOW + 3600 * hours
        report = self.log.compact(before=before, consumed=consumed)
        upto = self.head if consumed is None else consumed
        old = {k: v for k, v in self.held.items() if v[1].time < before}
        gone = {k: v for k, v in old.items() if v[0] <= upto}
        assert report.events + report.impressions == len(gone)
        assert report.kept_unread == len(old) - len(gone)
        self.held = {k: v for k, v in self.held.items() if k not in gone}
        self.floor = max(self.floor, before)
        self.compacted = max([self.compacted, *(offset for offset, _ in gone.values())])

    @rule()
    def open_again(self) -> None:
        name = self.log.id
        self.log.close()
        self.log = open_log(self.where())
        assert self.log.id == name

    @rule(after=st.integers(0, 20), limit=st.integers(1, 5))
    def read_a_part(self, after: int, limit: int) -> None:
        expected = [record for offset, record in self.in_order() if offset > after][:limit]
        assert [logged.record for logged in self.log.read(after, limit)] == expected

    @invariant()
    def the_same_is_held(self) -> None:
        if not hasattr(self, "log"):
            return
        held: list[Logged] = self.log.read()
        assert [(logged.offset, logged.record) for logged in held] == self.in_order()
        assert self.log.head() == self.head
        assert self.log.compacted() == self.compacted
        marks = self.log.erased()
        assert len(marks) == self.marks
        last = {mark.person: mark.offset for mark in marks}
        assert last == {self.log.pseudonym(p): offset for p, offset in self.erased.items()}
        for person in PEOPLE:
            theirs = [v for v in self.in_order() if v[1].user_id == person]
            events = [v for v in theirs if isinstance(v[1], Event)]
            by_time = [record for _, record in sorted(events, key=lambda v: (v[1].time, v[0]))]
            assert self.log.history(person) == by_time
            assert self.log.history(person, limit=2) == by_time[-2:]

    def in_order(self) -> list[tuple[int, Event | Impression]]:
        return sorted(self.held.values(), key=lambda v: v[0])

    def teardown(self) -> None:
        if hasattr(self, "log"):
            self.log.close()


CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def test_sqlite_does_what_the_model_does() -> None:
    class OnSqlite(Model):
        def where(self) -> str | Path:
            if not hasattr(self, "folder"):
                self.folder = tempfile.TemporaryDirectory()
            return Path(self.folder.name, "events.db")

        def teardown(self) -> None:
            super().teardown()
            if hasattr(self, "folder"):
                self.folder.cleanup()

    run_state_machine_as_test(
        OnSqlite,
        settings=settings(
            max_examples=20, stateful_step_count=15, deadline=None, suppress_health_check=CHECKS
        ),
    )


def test_postgresql_does_what_the_model_does(cluster: Cluster) -> None:
    class OnPostgres(Model):
        def where(self) -> str | Path:
            if not hasattr(self, "url"):
                self.url = cluster.fresh()
            return self.url

    run_state_machine_as_test(
        OnPostgres,
        settings=settings(
            max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=CHECKS
        ),
    )
