"""The learner follows a log: it learns what is new, and what serves is whole at any moment."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from continual_world import GEAR, base, moment, scores, whole, with_settings

from isthmus.errors import ConfigError, DataError, LogError, TrainingError
from isthmus.online import learner as learner_module
from isthmus.online.catalogue import open_catalogue
from isthmus.online.events import Event, Impression
from isthmus.online.guided import guided_positions
from isthmus.online.intake import Limits
from isthmus.online.learner import Learner, new_events
from isthmus.online.log import EventLog, open_log
from isthmus.recommender import Recommender
from isthmus.training.checkpoint import described, promote, roll_back
from isthmus.training.ledger import read_ledger
from isthmus.training.versions import read_pointer
from word_encoder import WordEncoder


def events(start: float, stop: float) -> list[Event]:
    """What happened in the world between two shares of its events, in order of time."""
    dataset, found = whole(), []
    end = np.inf if stop == 1 else moment(stop)
    time = dataset.events.time
    places = np.flatnonzero((time >= moment(start)) & (time < end))
    for place in places[np.argsort(time[places], kind="stable")]:
        domain = dataset.domains[dataset.events.domain[place]]
        found.append(
            Event(
                event_id=f"e{place}",
                user_id=dataset.user_ids[int(dataset.events.user[place])],
                domain=domain.name,
                item_id=domain.items["item_id"][int(dataset.events.item[place])],
                time=float(time[place]),
            )
        )
    return found


def shown(event_id: str) -> Impression:
    """An item that somebody was shown."""
    return Impression(event_id, "ann", "gear", "g1", moment(0.6), "r1", rank=1)


@pytest.fixture
def log(tmp_path: Path):
    opened = open_log(tmp_path / "events.db")
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base().save(tmp_path / "model")
    return tmp_path / "model"


def learner(folder: Path, log: EventLog) -> Learner:
    return Learner(folder, log, encoder=WordEncoder())


def live(folder: Path) -> str:
    return read_pointer(folder).folder.name


def test_no_new_events_are_said_to_be_none_and_nothing_is_written(folder, log) -> None:
    step = learner(folder, log).step()
    assert step.reason == "No new events: nothing to learn."
    assert step.version is None
    assert len(described(folder)) == 1


def test_few_new_events_wait_unless_asked_for(folder, log) -> None:
    log.append(events(0.6, 0.61)[:10])
    step = learner(folder, log).step()
    assert step.reason == "10 new events: waiting for 200."
    assert learner(folder, log).step(wait=False).version == "v000002"


def test_an_event_of_thousands_of_years_ago_stops_nothing(folder: Path, tmp_path: Path) -> None:
    log = open_log(tmp_path / "old.db", limits=Limits(earliest=-np.inf))
    some = events(0.6, 0.65)
    log.append([*some, replace(some[0], event_id="ancient", time=-1e15)])
    step = learner(folder, log).step(wait=False)
    log.close()
    assert step.version == "v000002"
    grown = Recommender.load(folder, version=step.version)
    assert grown.dataset.events.time.min() == -1e15

    assert np.isfinite(scores(grown, GEAR)).all()


def test_how_few_may_be_asked_for(folder, log) -> None:
    log.append(events(0.6, 0.61)[:10])
    assert learner(folder, log).step(least=11).reason == "10 new events: waiting for 11."
    assert learner(folder, log).step(least=10).version == "v000002"


def test_settings_hold_for_a_learner_and_the_model_keeps_its_own(folder, log) -> None:
    settings = ["learning.least_events=60", "learning.keep_versions=2", "learning.passes=0"]
    asked = Learner(folder, log, encoder=WordEncoder(), settings=settings)
    told = events(0.6, 0.8)
    log.append(told[:55])
    assert asked.step().reason == "55 new events: waiting for 60."
    for _ in range(5):
        base().save(folder)
    log.append(told[55:])
    asked.step()
    # The new one, the live one or the one before it, and two others.
    assert 3 <= len(described(folder)) <= 5
    meta = described(folder)[-1][2]
    assert tuple(meta["progress"]["settings"]) == tuple(settings)
    assert meta["config"]["learning"] == base().config.model_dump(mode="json")["learning"]
    with pytest.raises(ConfigError, match=r"model\.dim"):
        Learner(folder, log, settings=["model.dim=3"])


def test_old_records_go_once_the_live_version_has_taken_them_in(folder, log) -> None:
    told = events(0.6, 0.8)
    log.append(told)
    assert learner(folder, log).compact() is None
    # In the middle of the widest gap, whatever the clock does meanwhile.
    times = np.array([event.time for event in told])
    gap = int(np.argmax(np.diff(times)))
    old, between = gap + 1, float(times[gap : gap + 2].mean())
    days = (time.time() - between) / 86_400
    kept = with_settings(base(), f"online.retention_days={days}")
    kept.save(folder)
    # Nothing is taken in yet.
    report = learner(folder, log).compact()
    assert (report.events, report.kept_unread) == (0, old)
    version = learner(folder, log).step(wait=False).version
    promote(folder, version)
    report = learner(folder, log).compact()
    assert report.events == old
    assert not report.kept_unread
    assert learner(folder, log).step().version is None


def test_a_fit_that_goes_on_from_a_compacted_log_is_told_what_is_gone(folder, log) -> None:
    log.append(events(0.6, 0.7))
    promote(folder, learner(folder, log).step(wait=False).version)
    log.append(events(0.7, 0.71))
    assert not learner(folder, log).step().notes
    log.compact(before=moment(0.7), consumed=log.head())
    gone = len(events(0.6, 0.7))
    assert log.compacted() == gone
    assert not learner(folder, log).step().notes
    promote(folder, "v000001")
    log.append(events(0.71, 0.8))
    for asked in ({"least": 10**6}, {"wait": False}):
        (note,) = learner(folder, log).step(**asked).notes
        assert note.startswith(f"Records up to {gone} have been compacted away")
        assert "from a later version with 'isthmus models promote', or fit again." in note


def test_an_update_is_a_version_with_its_reason_offset_and_parent(folder, log) -> None:
    log.append(events(0.6, 0.8))
    step = learner(folder, log).step()
    assert step.version == "v000002"
    meta = described(folder)[-1][2]
    assert meta["log"] == {"id": log.id, "offset": log.head(), "registered": 0}
    assert meta["progress"]["parent"] == "v000001"
    assert meta["progress"]["verdict"]["reason"] in step.reason
    assert (live(folder) == "v000002") == step.live
    again = learner(folder, log).step()
    assert again.version is None
    assert again.reason.startswith("No new events")


def test_what_is_kept_back_is_not_tried_again_until_more_has_come(folder, log, monkeypatch) -> None:
    real = learner_module.updated

    def worse(*args, **kwargs):
        found = real(*args, **kwargs)
        verdict = replace(found.verdict, no_worse=False)
        progress = replace(found.progress, verdict=verdict)
        return replace(found, verdict=verdict, progress=progress)

    monkeypatch.setattr(learner_module, "updated", worse)
    log.append(events(0.6, 0.8))
    step = learner(folder, log).step()
    assert (step.version, step.live, live(folder)) == ("v000002", False, "v000001")
    assert learner(folder, log).step().reason == (
        "No new events since v000002, which was kept back."
    )
    promote(folder, "v000002")
    roll_back(folder)
    assert learner(folder, log).step().reason == (
        "No new events since v000002, which was rolled back."
    )
    # What can never be learnt is no reason to try once more.
    log.append([shown("i1"), *gaer(2)])
    log.erase("a stranger")
    assert learner(folder, log).step(wait=False).reason == (
        "No new events since v000002, which was rolled back."
    )
    log.append(events(0.8, 0.81)[:10])
    waits = learner(folder, log).step()
    assert (waits.version, waits.new_events) == (None, len(events(0.6, 0.8)) + 10)
    assert waits.reason == ("10 new events since v000002, which was rolled back: waiting for 200.")
    monkeypatch.setattr(learner_module, "updated", real)
    more = learner(folder, log).step(least=10)
    # What the refused version learnt is still new to the one that serves.
    assert more.new_events == len(events(0.6, 0.8)) + 10
    assert more.version == "v000003"


def test_what_was_rolled_back_over_several_versions_is_not_tried_again(folder, log) -> None:
    for start, stop in ((0.6, 0.7), (0.7, 0.8)):
        log.append(events(start, stop))
        promote(folder, learner(folder, log).step(wait=False).version)
    for _ in range(2):
        roll_back(folder)
    assert live(folder) == "v000001"
    log.append([shown("i1")])
    assert learner(folder, log).step(wait=False).reason == (
        "No new events since v000003, which was rolled back."
    )


def test_steps_in_one_process_or_in_two_give_the_same(folder, log, tmp_path) -> None:
    log.append(events(0.6, 0.75))
    first = learner(folder, log)
    first.step(wait=False)
    log.append(events(0.75, 0.9))
    same = first.step(wait=False)
    other = tmp_path / "other"
    base().save(other)
    second = open_log(tmp_path / "again.db")
    second.append(events(0.6, 0.75))
    learner(other, second).step(wait=False)
    second.append(events(0.75, 0.9))
    resumed = learner(other, second).step(wait=False)
    second.close()
    assert (same.version, same.live, same.reason) == (
        resumed.version,
        resumed.live,
        resumed.reason,
    )
    one, two = (Recommender.load(place, version=same.version) for place in (folder, other))
    np.testing.assert_array_equal(scores(one, GEAR), scores(two, GEAR))


def test_a_model_does_not_follow_another_log(folder, log, tmp_path) -> None:
    log.append(events(0.6, 0.75))
    learner(folder, log).step(wait=False)
    other = open_log(tmp_path / "other.db")
    other.append(events(0.6, 0.75))
    # Whether or not it serves, the new version was made from the first log.
    promote(folder, "v000002")
    with pytest.raises(LogError, match="follows the event log"):
        learner(folder, other).step()
    other.close()


def test_a_log_of_other_catalogues_is_refused(folder, log) -> None:
    log.append([Event(f"e{n}", "ann", "films", "f1", 1.6e9 + n) for n in range(60)])
    with pytest.raises(LogError, match=r"none of the log's events.*60 of domain 'films'"):
        learner(folder, log).step()
    assert live(folder) == "v000001"


def test_an_erased_person_is_out_of_the_snapshot_the_replay_and_every_version(folder, log) -> None:
    busiest = int(np.argmax(np.diff(base().dataset.events.offsets)))
    person = base().dataset.user_ids[busiest]
    log.append(events(0.6, 0.75))
    learner(folder, log).step(wait=False)
    log.erase(person)
    log.append(
        [event for event in events(0.75, 0.9) if event.user_id != person],
    )
    learner(folder, log).step(wait=False)
    for name, *_ in described(folder):
        dataset = Recommender.load(folder, version=name).dataset
        assert person not in dataset.user_ids
        assert not np.diff(dataset.events.offsets)[busiest]
    assert all(meta["progress"]["kind"] != "fit" for *_, meta in described(folder))
    # What became of the versions that had to go is still known, and names nobody.
    entered = read_ledger(folder)
    assert [entry["kind"] for entry in entered.values()] == ["fit", "update", "erasure", "update"]
    assert f'"{person}"' not in (folder / "ledger.jsonl").read_text()


def test_of_who_was_hidden_and_shown_again_what_comes_is_learnt_and_no_more(
    folder, log, tmp_path
) -> None:
    early, late = events(0.6, 0.8), events(0.8, 0.9)
    person = Counter(event.user_id for event in late).most_common(1)[0][0]
    before, after = (sum(e.user_id == person for e in some) for some in (early, late))
    assert before
    catalogue = open_catalogue(tmp_path / "events.db")
    following = Learner(folder, log, catalogue=catalogue, encoder=WordEncoder())

    def known() -> int:
        dataset = Recommender.load(folder).dataset
        return int(np.diff(dataset.events.offsets)[dataset.user_index[person]])

    at_first = known()
    log.append(early)
    catalogue.hide_person(person)
    passing = following.step(wait=False)
    assert passing.left_out == {"of people who are hidden": before}
    promote(folder, passing.version)
    catalogue.hide_person(person, hidden=False)
    log.append(late)
    promote(folder, following.step(wait=False).version)
    assert known() == at_first + after
    assert len(log.choices(person)) == before + after
    catalogue.close()


def test_a_killed_step_leaves_the_old_version_and_the_next_one_goes_on(
    folder, log, monkeypatch, tmp_path
) -> None:
    log.append(events(0.6, 0.8))
    other = tmp_path / "other"
    base().save(other)
    whole_step = learner(other, log).step()

    def dying(self, *args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recommender, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            learner(folder, log).step()
    assert live(folder) == "v000001"
    assert (folder / "update").is_dir()
    Recommender.load(folder)
    step = learner(folder, log).step()
    assert (step.version, step.live, step.reason) == (
        whole_step.version,
        whole_step.live,
        whole_step.reason,
    )
    assert not (folder / "update").exists()
    one, two = (Recommender.load(place, version=step.version) for place in (folder, other))
    np.testing.assert_array_equal(scores(one, GEAR), scores(two, GEAR))


def test_a_step_killed_between_erasing_and_dropping_older_versions_is_finished(
    folder, log, monkeypatch
) -> None:
    person = base().dataset.user_ids[int(np.argmax(np.diff(base().dataset.events.offsets)))]
    log.append([event for event in events(0.6, 0.75) if event.user_id != person])
    log.erase(person)

    def dying(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(learner_module, "drop_others", dying)
        with pytest.raises(KeyboardInterrupt):
            learner(folder, log).step()
    assert [name for name, *_ in described(folder)] == ["v000001", "v000002"]
    # Nothing is new, and still what holds the erased person must go.
    learner(folder, log).step()
    for name, *_ in described(folder):
        assert person not in Recommender.load(folder, version=name).dataset.user_ids


def test_a_better_version_whose_step_was_killed_before_it_served_serves_after_the_next(
    folder, log, monkeypatch
) -> None:
    log.append(events(0.6, 0.8))
    real = os.replace

    def dying(source, target):
        if Path(target).parent == folder:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            learner(folder, log).step()
    assert live(folder) == "v000001"
    step = learner(folder, log).step()
    assert (step.version, live(folder)) == (None, "v000002")


def test_a_challenger_to_a_version_that_serves_no_more_is_kept_back(
    folder, log, monkeypatch
) -> None:
    real = learner_module.updated

    def meanwhile(*args, **kwargs):
        base().save(folder)
        return real(*args, **kwargs)

    monkeypatch.setattr(learner_module, "updated", meanwhile)
    log.append(events(0.6, 0.9))
    step = learner(folder, log).step()
    assert not step.live
    assert live(folder) == "v000002"


def test_a_full_fine_tune_can_be_asked_for(folder, log) -> None:
    log.append(events(0.6, 0.8))
    assert learner(folder, log).step(full=True).version
    assert described(folder)[-1][2]["progress"]["kind"] == "full fine-tune"


def test_events_are_counted_and_answers_to_recommendations_found(log) -> None:
    from dataclasses import replace

    told = events(0.6, 0.65)
    mixed = [
        replace(event, recommendation_id="r1") if n % 3 == 0 else event
        for n, event in enumerate(told)
    ]
    log.append(mixed)
    assert new_events(log, 0, log.head()) == len(told)
    time = whole().events.time
    fresh = np.flatnonzero((time >= moment(0.6)) & (time < moment(0.65)))
    found = guided_positions(whole(), fresh, mixed)
    ids = {f"e{place}" for place in found}
    assert ids == {event.event_id for event in mixed if event.recommendation_id}


@pytest.fixture
def guided(monkeypatch) -> list[tuple[set[tuple], set[tuple]]]:
    """Of every update: what has not been learnt, and what of it answers a recommendation."""
    real, told = learner_module.updated, []

    def facts(dataset, places) -> set[tuple]:
        events, people = dataset.events, dataset.user_ids
        return {(people[int(events.user[n])], float(events.time[n])) for n in places}

    def spied(recommender, snapshot, *args, **kwargs):
        unlearnt = np.union1d(np.flatnonzero(~snapshot.split.in_train), snapshot.fresh)
        told.append(tuple(facts(snapshot.dataset, some) for some in (unlearnt, snapshot.guided)))
        return real(recommender, snapshot, *args, **kwargs)

    monkeypatch.setattr(learner_module, "updated", spied)
    return told


def answers(told: list[Event]) -> list[Event]:
    """The same events, every other one of a recommendation."""
    return [replace(e, recommendation_id="r1") if n % 2 else e for n, e in enumerate(told)]


def test_after_an_erasure_answers_to_recommendations_are_still_known(folder, log, guided) -> None:
    told = answers(events(0.6, 0.8))
    person = base().dataset.user_ids[3]
    expected = {(e.user_id, e.time) for e in told if e.recommendation_id and e.user_id != person}
    log.append(told)
    log.erase(person)
    step = learner(folder, log).step()
    assert guided[0][1] == expected
    assert step.new_events == sum(e.user_id != person for e in told)


def test_what_waits_over_several_erasures_is_still_known_to_answer(folder, log, guided) -> None:
    told, erased = answers(events(0.6, 0.8)), base().dataset.user_ids[3:5].to_list()
    log.append(told)
    for person in erased:
        log.erase(person)
        assert learner(folder, log).step(least=10**6).version is None
    assert live(folder) == "v000003"
    learner(folder, log).step(wait=False)
    ((_, found),) = guided
    assert found == {
        (e.user_id, e.time) for e in told if e.recommendation_id and e.user_id not in erased
    }


def test_what_judged_once_is_still_known_to_answer_a_recommendation(folder, log, guided) -> None:
    told = [*answers(events(0.6, 0.75)), *events(0.75, 0.9)]
    log.append([event for event in told if event.time < moment(0.75)])
    promote(folder, learner(folder, log).step(wait=False).version)
    log.append([event for event in told if event.time >= moment(0.75)])
    promote(folder, learner(folder, log).step(wait=False).version)
    answered = {(e.user_id, e.time) for e in told if e.recommendation_id}
    (_, first), (unlearnt, second) = guided
    assert first == answered
    assert second == answered & unlearnt
    assert 0 < len(second) < len(first)


def test_answers_that_a_version_kept_back_has_learnt_judge_the_next(folder, log, guided) -> None:
    earlier, later = answers(events(0.6, 0.75)), answers(events(0.75, 0.9))
    log.append(earlier)
    if learner(folder, log).step(wait=False).live:
        roll_back(folder)
    log.append(later)
    learner(folder, log).step(wait=False)
    (_, first), (_, second) = guided
    assert first == {(e.user_id, e.time) for e in earlier if e.recommendation_id}
    assert second == {(e.user_id, e.time) for e in later if e.recommendation_id}


def gaer(n: int, first: int = 0) -> list[Event]:
    """Events of a domain whose name is not spelt as the model's."""
    return [
        Event(f"gaer{k}", "ann", "gaer", "g1", moment(0.6) + k) for k in range(first, first + n)
    ]


def test_what_is_left_out_is_said_whatever_comes_of_the_rest(folder, log, monkeypatch) -> None:
    real = learner_module.updated

    def worse(*args, **kwargs):
        found = real(*args, **kwargs)
        return replace(found, verdict=replace(found.verdict, no_worse=False))

    def too_few(*args, **kwargs):
        raise TrainingError("2 are too few", hint="Wait for more of them")

    log.append([*events(0.6, 0.61)[:2], *gaer(3)])
    left_out = {"of domain 'gaer', which the model does not have": 3}
    said = "3 events were left out: 3 of domain 'gaer'"
    waits = learner(folder, log).step()
    assert waits.reason.startswith("2 new events: waiting for")
    monkeypatch.setattr(learner_module, "updated", too_few)
    with pytest.raises(TrainingError, match=rf"2 are too few\. Wait for more of them\. {said}"):
        learner(folder, log).step(wait=False)
    log.append(events(0.61, 0.8))
    monkeypatch.setattr(learner_module, "updated", worse)
    kept_back = learner(folder, log).step()
    assert (kept_back.version, kept_back.live) == ("v000002", False)
    again = learner(folder, log).step()
    assert again.reason == "No new events since v000002, which was kept back."
    for step in (waits, kept_back, again):
        assert step.left_out == left_out
        (note,) = step.notes
        assert note.startswith(said)
        assert "The model has books and gear. If 'gaer' should be one of these" in note
    monkeypatch.setattr(learner_module, "updated", real)
    promote(folder, "v000002")
    log.append(gaer(4, first=3))
    none = learner(folder, log).step()
    assert none.reason == "No new events: nothing to learn."
    assert none.left_out == {"of domain 'gaer', which the model does not have": 4}
    assert none.notes[0].startswith("4 events were left out")


def taught(folder: Path, *overrides: str) -> None:
    """A version that tells ratings, live."""
    teaching = with_settings(base(), "tasks.epochs=1", "tasks.hidden=8", *overrides)
    teaching.teach("rate")
    teaching.save(folder)


@pytest.mark.parametrize("passes", [0, 1])
def test_heads_that_are_not_carried_over_are_said(folder, log, passes: int) -> None:
    taught(folder, f"learning.passes={passes}")
    log.append(events(0.6, 0.8))
    step = learner(folder, log).step()
    assert step.heads_dropped == ("rate",)
    (note,) = step.notes
    assert note.startswith("The heads for rate were not carried over: v000003 only ranks.")
    successor = Recommender.load(folder, version=step.version)
    assert not successor.taught
    if step.live:
        assert "'isthmus models promote v000002'" in note
        assert ("fit again with 'isthmus fit'" in note) == (passes == 0)
    if passes:
        successor.teach("rate")
    else:
        with pytest.raises(DataError, match="no question is held back"):
            successor.teach("rate")
    promote(folder, "v000003")
    log.append(events(0.8, 0.9))
    assert not learner(folder, log).step().heads_dropped


def test_an_erasure_says_what_it_leaves_behind(folder, log) -> None:
    taught(folder)
    log.append([*events(0.6, 0.61)[:2], *gaer(3)])
    log.erase(base().dataset.user_ids[0])
    step = learner(folder, log).step()
    assert step.reason.endswith("waiting for 200.")
    assert step.heads_dropped == ("rate",)
    assert step.left_out == {"of domain 'gaer', which the model does not have": 3}
    left_out, heads = step.notes
    assert left_out.startswith("3 events were left out")
    assert heads.startswith("The heads for rate were not carried over: v000003 only ranks.")
    assert "promote" not in heads


def test_a_version_that_was_taught_and_left_keeps_no_update_from_the_one_before(
    folder, log
) -> None:
    """It stands at the same place in the log, and has not tried what waits there."""
    log.append(events(0.6, 0.75))
    log.erase(base().dataset.user_ids[0])
    waiting = learner(folder, log).step(least=10**6)
    assert waiting.version is None
    before = live(folder)
    teaching = Recommender.load(folder)
    teaching.config = teaching.config.override("tasks.epochs=1", "tasks.hidden=8")
    teaching.teach("rate")
    teaching.progress = replace(teaching.progress, parent=before)
    teaching.save(folder)
    assert [meta["progress"]["kind"] for *_, meta in described(folder)] == ["erasure", "taught"]
    roll_back(folder)
    assert learner(folder, log).step(wait=False).version == "v000004"
