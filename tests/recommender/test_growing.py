"""A catalogue joins a fitted recommender, serves at once, and learns from its first events."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from recommender_world import quick_config

from isthmus.blend.fitting import LEAST_WEIGHT
from isthmus.config import CleaningConfig
from isthmus.data.appending import append_events
from isthmus.data.build import dataset_from_frames
from isthmus.data.cleaning import CleaningReport
from isthmus.data.frames import DomainFrames
from isthmus.data.splits import Queries
from isthmus.data.world import DomainSpec, World, WorldConfig, generate_world
from isthmus.errors import DataError, RequestError
from isthmus.recommender import Recommender
from isthmus.scoring import Requests, Scorer
from isthmus.transfer import adaptation
from isthmus.transfer.adaptation import _Course, _only
from isthmus.transfer.sides import prior_weights
from word_encoder import WordEncoder

BOOKS, FILMS, GEAR = 0, 1, 2


@cache
def world() -> World:
    names = ("books", "films", "gear", "courses")
    domains = tuple(
        DomainSpec(name=name, n_items=80, events_per_user=n)
        for name, n in zip(names, (9, 6, 6, 4), strict=True)
    )
    return generate_world(WorldConfig(n_users=300, n_themes=6, focus=3.0, domains=domains, seed=3))


@cache
def fitted() -> Recommender:
    """Books and films alone."""
    frames = {name: world().frames[name] for name in ("books", "films")}
    config = quick_config(
        training={"epochs": 6, "evaluate_every": 3, "batch_events": 512, "learning_rate": 6e-3},
        split={"kind": "leave-one-out"},
    )
    return Recommender.fit(dataset_from_frames(frames)[0], config, encoder=WordEncoder())


def catalogue(name: str = "gear") -> DomainFrames:
    return replace(world().frames[name], events=None)


def log(name: str = "gear") -> pl.DataFrame:
    """Its events by people who were there when the model was fitted, in order."""
    events = world().frames[name].events
    known = fitted().dataset.user_ids.implode()
    return events.filter(pl.col("user_id").is_in(known)).sort("time", "user_id", "item_id")


@cache
def joined() -> Recommender:
    return fitted().add_domain("gear", catalogue(), encoder=WordEncoder())


@cache
def adapted() -> Recommender:
    return joined().adapt_domain("gear", DomainFrames(log()), limit=400)


def scores(recommender: Recommender, domain: int, n_users: int = 0) -> np.ndarray:
    """What everybody, or the first of them, is served after all they have done."""
    n_users = n_users or recommender.dataset.n_users
    asked = Requests.of_users(recommender.dataset, np.arange(n_users))
    return recommender.system.gated.score(asked, domain).total


def percentile(scorer: Scorer, recommender: Recommender, events: pl.DataFrame) -> float:
    """Mean place of what people chose, 1 the best, .5 what chance gives."""
    dataset = recommender.dataset
    d = dataset.domain_index("gear")
    rows = np.array([dataset.user_index[user] for user in events["user_id"]])
    items = np.array([dataset.domains[d].item_index[item] for item in events["item_id"]])
    total = scorer.score(Requests.of_users(dataset, rows), d).total
    own = np.take_along_axis(total, items[:, None], axis=1)
    return float(((total < own).mean(1) + (total == own).mean(1) / 2).mean())


def test_scores_of_the_domains_that_were_there_stay_what_they_were() -> None:
    before = fitted()
    n_users = before.dataset.n_users
    strangers = world().frames["gear"].events
    for after in (
        joined(),
        adapted(),
        before.add_domain("gear", replace(catalogue(), events=strangers), encoder=WordEncoder()),
    ):
        assert after.dataset.names == ("books", "films", "gear")
        for domain in (BOOKS, FILMS):
            assert np.array_equal(scores(before, domain), scores(after, domain, n_users))
            asked = [Requests.of_users(r.dataset, np.arange(n_users)) for r in (before, after)]
            weights = [
                r.system.gated.weights(a, domain)
                for r, a in zip((before, after), asked, strict=True)
            ]
            assert np.array_equal(*weights)
    # It is by people with a history in gear as well that this was shown.
    assert (adapted().dataset.events.domain == GEAR).sum() == 400
    assert before.dataset.names == ("books", "films")


def test_people_known_elsewhere_are_served_at_once_by_the_texts() -> None:
    one = joined()
    later = log().tail(600)
    assert percentile(one.system.gated, one, later) > 0.6
    with_both = one.dataset.user_ids.to_list()[:3]
    answers = one.recommend("gear", users=with_both, k=4)
    assert answers.group_by("request").len()["len"].to_list() == [4, 4, 4]
    assert {"new to gear" in basis for basis in answers["basis"]} == {True}
    assert one.gates["gear"].weight == 1
    assert "gear has no behaviour to validate on" in one.gates["gear"].reason


@pytest.mark.parametrize("others", [["books"], ["books", "films"]])
def test_texts_that_join_stand_where_equal_texts_stood_in_training(others: list[str]) -> None:
    one = fitted()
    if len(others) == 1:
        dataset = dataset_from_frames({"books": world().frames["books"]})[0]
        config = one.config.override("training.epochs=1")
        one = Recommender.fit(dataset, config, encoder=WordEncoder())
    again = one.add_domain("more books", catalogue("books"), encoder=WordEncoder())
    mine, theirs = (again.system.features[d] for d in (len(others), 0))
    assert np.array_equal(mine.present, theirs.present)
    assert np.allclose(mine.vectors, theirs.vectors, atol=1e-3)
    side = again.system.joined[len(others)].arrived
    assert np.array_equal(side.neural.model.items.text[: len(theirs)], theirs.vectors)


def test_a_new_domain_starts_from_the_mean_of_the_others_and_ids_untrained_are_never_read() -> None:
    before, after = (r.system.sides(d)[0].neural for r, d in ((fitted(), 0), (joined(), GEAR)))
    was, now = before.model, after.model
    mean = was.users.domain.weight.mean(0)
    assert torch.allclose(now.users.domain.weight[GEAR], mean, atol=1e-6)
    assert torch.equal(now.users.domain.weight[:GEAR], was.users.domain.weight)
    assert torch.equal(now.items.table[: len(was.items.table)], was.items.table)
    asked = Requests.of_users(joined().dataset, np.arange(40))
    usual = after.score(asked, GEAR).total
    start = now.bounds[GEAR]
    kept = now.items.table[start:].clone()
    now.items.table[start:] = 1e3
    try:
        again = type(after)(now, after.reads).score(asked, GEAR).total
    finally:
        now.items.table[start:] = kept
    assert np.array_equal(usual, again)
    assert np.ptp(usual, axis=1).min() > 0


def test_what_is_learnt_belongs_to_the_domain_alone() -> None:
    found = adapted().system.joined[GEAR]
    assert found.adapted is not None
    before, after = (s.neural.model.state_dict() for s in (found.arrived, found.adapted))
    start = found.arrived.neural.model.bounds[GEAR]
    rows = {"users.domain.weight": GEAR, "items.missing.weight": GEAR, "items.table": start}
    for name, weight in after.items():
        if name in rows:
            assert torch.equal(weight[: rows[name]], before[name][: rows[name]])
        elif not name.startswith(f"users.adapters.{GEAR}."):
            assert torch.equal(weight, before[name]), name
    for name in ("users.domain.weight", "items.table"):
        assert not torch.equal(after[name], before[name])
    assert not torch.equal(
        after[f"users.adapters.{GEAR}.up.weight"], before[f"users.adapters.{GEAR}.up.weight"]
    )
    # Items without an event keep an ID of zeros, which is not read.
    seen = found.adapted.neural.model.items.evidence[start:] > 0
    assert 0 < int(seen.sum()) <= len(seen)


def test_all_weights_learn_again_afterwards() -> None:
    model = joined().system.joined[GEAR].arrived.neural.model
    with _only(model, GEAR):
        learning = {name for name, w in model.named_parameters() if w.requires_grad}
        assert "users.domain.weight" in learning
        assert "items.project.weight" not in learning
    assert all(w.requires_grad for w in model.parameters())
    assert model.items.ids_learnt_of is None


def test_the_first_events_make_it_better_on_those_that_follow() -> None:
    one, two = joined(), adapted()
    known = pl.Series(two.dataset.user_ids).implode()
    later = log().slice(400).filter(pl.col("user_id").is_in(known))
    gate = two.gates["gear"]
    assert "adaptation changes NDCG@10 by +" in gate.reason
    assert gate.weight > 0
    as_joined = percentile(one.system.gated, two, later)
    assert percentile(two.system.gated, two, later) > as_joined + 0.02
    users = two.dataset.user_ids.to_list()[:2]
    assert "parts" in two.recommend("gear", users=users, k=2).columns


def test_a_fold_looks_up_nothing_of_what_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Course, "_neural", lambda self, *_: self.arrived.neural)
    grown = adapted()
    # Behind a cut, parts that count look up what has not been learnt.
    split = replace(grown.split, name="global")
    course = _Course(grown.system, grown.dataset, split, grown.raw, grown.config, GEAR)
    events = grown.dataset.events
    held_out = (events.domain == GEAR) & (events.user % 2 == 0)
    told = course.parts(~held_out, "half")
    without = replace(grown.dataset, events=events.keep(~held_out))
    bare = replace(split, in_train=split.in_train[~held_out], name="leave-one-out")
    alone = _Course(grown.system, without, bare, grown.raw, grown.config, GEAR)
    expected = alone.parts(np.ones(len(without.events), bool), "half")
    asked = Requests.of_users(grown.dataset, np.arange(100))
    for name in ("co-occurrence", "recent-popular"):
        score = told[name].score(asked, GEAR).total
        assert score.any()
        np.testing.assert_array_equal(score, expected[name].score(asked, GEAR).total)


def test_the_first_events_are_judged_by_the_candidates_of_the_evaluation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = []
    usual = adaptation.fit_blend

    def watched(*given, exclude_seen, **options):
        offered.append(not exclude_seen)
        return usual(*given, exclude_seen=exclude_seen, **options)

    monkeypatch.setattr(adaptation, "fit_blend", watched)
    config = fitted().config.override("evaluation.exclude_seen=false")
    known = fitted().dataset
    questions = Queries(np.flatnonzero(known.events.domain == BOOKS))
    parts = {"text": fitted().system.transferred.parts["text"]}
    adaptation._judged(parts, known, questions, BOOKS, config)
    assert offered
    assert all(offered)


def test_too_few_events_to_judge_by_are_counted_with_little_weight_and_it_says_so() -> None:
    few = joined().adapt_domain("gear", DomainFrames(log()), limit=10)
    assert "are too few to judge by" in few.gates["gear"].reason
    was, now = (r.system.joined[GEAR] for r in (joined(), few))
    assert now.adapted is None
    assert now.arrived.neural.model is was.arrived.neural.model
    events = few.dataset.events.only(GEAR)
    assert len(events) == 10
    before, after = was.arrived.blend.weights[GEAR], now.arrived.blend.weights[GEAR]
    assert before["recent-popular"] == before["co-occurrence"] == LEAST_WEIGHT
    assert after["text"] == before["text"]
    side = fitted().system.transferred
    usual = prior_weights(side.fitted, side.parts)
    for part, half in (("recent-popular", 100), ("co-occurrence", 300)):
        share = 10 / (10 + half)
        assert after[part] == pytest.approx(max(share * usual[part], LEAST_WEIGHT))
    asked = Requests.of_users(joined().dataset, np.arange(50))
    one, other = (r.system.gated.score(asked, GEAR).total for r in (joined(), few))
    sold = np.unique(events.item)
    others = np.setdiff1d(np.arange(one.shape[1]), sold)
    lift = (other - one).mean(0)
    assert lift[sold].min() > lift[others].max()


def test_the_first_events_by_time_are_taken_whatever_the_order_of_rows() -> None:
    events = log().sample(fraction=1.0, shuffle=True, seed=5)
    again = joined().adapt_domain("gear", DomainFrames(events), limit=400)
    times = again.dataset.events.only(GEAR).time
    assert times.max() <= log()["time"].sort()[399]
    assert np.array_equal(scores(again, GEAR), scores(adapted(), GEAR))
    assert again.gates == adapted().gates


def test_in_two_goes_the_same_events_lead_to_the_same_place() -> None:
    half = joined().adapt_domain("gear", DomainFrames(log()), limit=150)
    report = CleaningReport()
    whole = half.adapt_domain("gear", DomainFrames(log()), limit=400, report=report)
    assert "150 rows dropped, known to the model already" in " ".join(report.lines())
    assert np.array_equal(scores(whole, GEAR), scores(adapted(), GEAR))
    one, two = (r.system.joined[GEAR].arrived.blend.weights for r in (whole, adapted()))
    assert one == two
    with pytest.raises(DataError, match="no new event of 'gear' is left"):
        whole.adapt_domain("gear", DomainFrames(log()), limit=400)


@pytest.mark.parametrize("policy", ["keep", "drop"])
def test_events_on_unknown_items_and_of_unknown_people_are_counted(policy: str) -> None:
    usual = log().head(60).select("user_id", "item_id", "time")
    odd = pl.DataFrame(
        {
            "user_id": [usual["user_id"][0], "nobody"],
            "item_id": ["g9", usual["item_id"][0]],
            "time": [usual["time"][0]] * 2,
        }
    )
    report = CleaningReport()
    found = joined().adapt_domain(
        "gear",
        DomainFrames(pl.concat([usual, odd])),
        cleaning=CleaningConfig(unknown_users=policy),
        report=report,
    )
    said = " ".join(report.lines())
    assert "1 row dropped, on 1 items that the catalogue does not have" in said
    assert "of 1 people whom the model does not know" in said
    assert ("nobody" in found.dataset.user_index) == (policy == "keep")
    assert found.dataset.domains[GEAR].n_items == 80


def test_a_catalogue_of_people_nobody_knows_is_served_by_its_texts() -> None:
    events = log().head(200).with_columns(user_id=pl.lit("x") + pl.col("user_id"))
    events = events.unique("user_id")
    apart = fitted().add_domain("gear", replace(catalogue(), events=events), encoder=WordEncoder())
    assert "0 people with an event in gear and one before it" in apart.gates["gear"].reason
    asked = Requests.of_users(joined().dataset, np.arange(50))
    one, other = (r.system.gated.score(asked, GEAR).total for r in (joined(), apart))
    assert np.array_equal(one, other)
    stranger = str(events["user_id"][0])
    answer = apart.recommend("books", users=[stranger], k=1)
    assert "history in gear only, which joined later" in answer["basis"][0]


def test_without_texts_events_alone_tell_items_apart() -> None:
    bare = DomainFrames(events=log().head(300))
    one = fitted().add_domain("gear", bare, encoder=WordEncoder())
    assert "only its events tell them apart" in one.gates["gear"].reason
    assert np.ptp(scores(one, GEAR), axis=1).min() > 0
    # No text could be drowned, so however few they are, counts weigh what they do elsewhere.
    few = fitted().add_domain("gear", DomainFrames(events=log().head(20)), encoder=WordEncoder())
    weights, side = few.system.sides(GEAR)[0].blend.weights[GEAR], fitted().system.transferred
    usual = prior_weights(side.fitted, side.parts)
    for part in ("recent-popular", "co-occurrence"):
        assert weights[part] == usual[part]
    with pytest.raises(DataError, match="nothing could be recommended"):
        fitted().add_domain(
            "gear", DomainFrames(items=catalogue().items.select("item_id")), encoder=WordEncoder()
        )


def test_a_silent_domain_that_updates_gave_events_is_told_of_truly() -> None:
    frames = {"books": world().frames["books"], "gear": catalogue()}
    config = quick_config(training={"epochs": 1}, split={"kind": "leave-one-out"})
    before = Recommender.fit(dataset_from_frames(frames)[0], config, encoder=WordEncoder())
    assert "no behaviour to validate on" in before.gates["gear"].reason
    came = (
        world()
        .frames["gear"]
        .events.select(
            "user_id",
            "item_id",
            pl.col("time").cast(pl.Float64),
            domain=pl.lit("gear"),
            kind=pl.lit("event"),
            rating=pl.lit(None, pl.Float64),
            weight=pl.lit(1.0),
        )
    )
    step = append_events(before.dataset, came.sort("time"))
    after = before.update(step, encoder=WordEncoder()).recommender
    n = len(after.system.transferred.fitted[1].gain)
    assert n > 0
    reason = after.gates["gear"].reason
    assert "no target-only side to compare with" in reason
    assert f"found on {n:,} questions of its own" in reason
    assert after.gates["gear"].weight == 1
    with pytest.raises(RequestError, match="had no behaviour when the model was fitted"):
        after.adapt_domain("gear", world().frames["gear"])


def test_what_cannot_join_or_learn_is_refused() -> None:
    with pytest.raises(RequestError, match="there is a domain 'books' already"):
        fitted().add_domain("books", catalogue(), encoder=WordEncoder())
    with pytest.raises(DataError, match="neither a catalogue nor events"):
        fitted().add_domain("gear", DomainFrames())
    with pytest.raises(RequestError, match="domain 'gear' is not in this dataset"):
        fitted().adapt_domain("gear", DomainFrames(log()))
    with pytest.raises(RequestError, match="was there when the model was fitted"):
        joined().adapt_domain("films", DomainFrames(log()))
    with pytest.raises(RequestError, match="limit is 0"):
        joined().adapt_domain("gear", DomainFrames(log()), limit=0)
    with pytest.raises(DataError, match="no events"):
        joined().adapt_domain("gear", catalogue())
    with pytest.raises(DataError, match="no item of the events is in the catalogue"):
        joined().adapt_domain("gear", DomainFrames(world().frames["books"].events))


def test_several_domains_join_and_all_of_it_is_saved(tmp_path: Path) -> None:
    every = adapted().add_domain("courses", catalogue("courses"), encoder=WordEncoder())
    assert np.array_equal(scores(every, GEAR), scores(adapted(), GEAR))
    every = every.adapt_domain("courses", DomainFrames(log("courses")), limit=150)
    assert np.array_equal(
        scores(every, GEAR, 40),
        adapted().system.gated.score(Requests.of_users(every.dataset, np.arange(40)), GEAR).total,
    )
    every.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert loaded.gates == every.gates
    for domain in range(4):
        assert np.array_equal(scores(loaded, domain), scores(every, domain))
    gear, course = (every.dataset.domains[d].items["item_id"][0] for d in (GEAR, 3))
    for one, item, other in (("gear", gear, "courses"), ("courses", course, "gear")):
        there = loaded.similar(one, item, to=other, k=3)
        assert there.height == 3
        assert there.equals(every.similar(one, item, to=other, k=3))
    user = str(every.dataset.user_ids[0])
    assert loaded.profile(user) == every.profile(user)
    # A loaded one grows on as the other would have.
    more = [r.adapt_domain("gear", DomainFrames(log()), limit=450) for r in (loaded, every)]
    assert np.array_equal(*(scores(r, GEAR) for r in more))


def test_a_catalogue_without_behaviour_when_fitted_can_learn_too() -> None:
    frames = {name: world().frames[name] for name in ("books", "films")}
    dataset = dataset_from_frames({**frames, "gear": catalogue()})[0]
    one = Recommender.fit(dataset, fitted().config, encoder=WordEncoder())
    assert GEAR not in one.system.joined
    two = one.adapt_domain("gear", DomainFrames(log()), limit=400)
    assert two.system.joined[GEAR].adapted is not None
    asked = Requests.of_users(one.dataset, np.arange(one.dataset.n_users))
    for domain in (BOOKS, FILMS):
        before, after = (r.system.gated.score(asked, domain).total for r in (one, two))
        assert np.array_equal(before, after)


def test_what_joined_does_not_go_on_learning_unseen_and_says_so():
    with pytest.raises(RequestError, match=r"gear joined this model.*isthmus adapt-domain"):
        joined().update()
