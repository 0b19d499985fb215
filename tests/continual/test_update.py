"""A model goes on learning: it keeps what it knew, and no worse one takes over."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from continual_world import BOOKS, GEAR, base, growth, moment, scores, whole, with_settings
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from isthmus.baselines.cooccurrence import CoOccurrence
from isthmus.continual import challenger, refit
from isthmus.continual.drift import STREAMS, Watch
from isthmus.continual.elastic import Elastic, fisher_diagonal
from isthmus.continual.judge import Gains, gains_at, judge, served_gains
from isthmus.continual.progress import Progress
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.growth import Growth
from isthmus.data.splits import Queries
from isthmus.errors import ConfigError, DataError, TrainingError
from isthmus.model.core import CoreModel
from isthmus.recommender import Recommender, updating
from isthmus.scoring import Requests
from isthmus.tasks.examples import against_drawn, rated_events
from isthmus.training.next_item import NextItemTask


def gear_only(before: float, after: float) -> Growth:
    """New events in gear alone: what is known of books can be forgotten."""
    time = whole().events.time
    old = time < moment(before)
    taken = old | ((time < moment(after)) & (whole().events.domain == GEAR))
    dataset = replace(whole(), events=whole().events.keep(taken))
    return Growth(dataset, np.flatnonzero(old[taken]), np.flatnonzero(~old[taken]))


def likelihood(recommender: Recommender, domain: int) -> float:
    """Mean log-probability that the network gives to what people read before anything was new."""
    neural, dataset = recommender.system.transferred.neural, base().dataset
    position = base().split.validation.position
    position = position[dataset.events.domain[position] == domain]
    requests = Requests.at(dataset, position)
    logits = torch.from_numpy(neural.score(requests, domain).total)
    answer = torch.from_numpy(dataset.events.item[position].astype(np.int64))
    return float(logits.log_softmax(1).gather(1, answer[:, None]).mean())


HARD = ("learning.rate=4", "learning.passes=8", "learning.distil=0")


def test_less_is_forgotten_with_replay_than_without(always_learnt: None) -> None:
    told = gear_only(0.6, 0.9)
    forgetful = with_settings(base(), *HARD, "learning.replay=0").update(told).recommender
    mindful = with_settings(base(), *HARD, "learning.replay=3").update(told).recommender
    known = likelihood(base(), BOOKS)
    assert known - likelihood(mindful, BOOKS) < 0.6 * (known - likelihood(forgetful, BOOKS))


def agreement(one: Recommender, other: Recommender) -> float:
    """Mean distance of the networks' shares over books, 0 where they are the same."""
    people = Requests.of_users(base().dataset, np.arange(base().dataset.n_users))
    shares = [
        torch.from_numpy(r.system.transferred.neural.score(people, BOOKS).total).softmax(1)
        for r in (one, other)
    ]
    return float((shares[0] - shares[1]).abs().sum(1).mean())


def test_distillation_pulls_towards_the_serving_model(always_learnt: None) -> None:
    told = growth(0.6, 0.8)
    free = with_settings(base(), "learning.rate=2", "learning.distil=0").update(told)
    bound = with_settings(base(), "learning.rate=2", "learning.distil=20").update(told)
    assert agreement(bound.recommender, base()) < 0.8 * agreement(free.recommender, base())


def test_elastic_weights_stay_nearer_to_where_they_were(always_learnt: None) -> None:
    def moved(*overrides: str) -> float:
        found = with_settings(base(), "learning.distil=0", *overrides).update(growth(0.6, 0.8))
        before = dict(base().system.transferred.neural.model.named_parameters())
        after = dict(found.recommender.system.transferred.neural.model.named_parameters())
        return sum(float((after[n] - before[n]).detach().square().sum()) for n in before)

    assert moved("learning.elastic=1e5") < 0.8 * moved()


def test_the_elastic_loss_is_fisher_times_squared_distance() -> None:
    config, neural = base().config, base().system.transferred.neural
    features, evidence = base().system.features, neural.model.items.evidence.numpy()
    model = CoreModel(features, evidence, config.model, seed=1)
    events = base().split.train_events(base().dataset)
    task = NextItemTask(
        model,
        events,
        base().dataset.item_offsets,
        config.training,
        weights=[1.0, 1.0],
        max_length=20,
        device=torch.device("cpu"),
    )
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    fisher = fisher_diagonal(task, seed=0)
    assert all(torch.equal(before[name], w) for name, w in model.named_parameters())
    assert any(value.sum() > 0 for value in fisher.values())
    loss = Elastic(model, fisher, strength=3.0)
    assert loss(None).item() == 0.0  # type: ignore[arg-type]
    name = max(fisher, key=lambda n: float(fisher[n].sum()))
    with torch.no_grad():
        model.get_parameter(name).add_(0.1)
    expected = 0.5 * 3.0 * float(fisher[name].sum()) * 0.01
    assert loss(None).item() == pytest.approx(expected, rel=1e-4)  # type: ignore[arg-type]


def test_saving_and_loading_between_updates_changes_nothing(tmp_path) -> None:
    first = base().update(growth(0.6, 0.75)).recommender
    first.save(tmp_path / "m")
    straight = first.update(growth(0.75, 0.9))
    resumed = Recommender.load(tmp_path / "m").update(growth(0.75, 0.9))
    for domain in (BOOKS, GEAR):
        one, other = scores(straight.recommender, domain), scores(resumed.recommender, domain)
        np.testing.assert_array_equal(one, other)
    assert replace(straight.progress, seconds=0) == replace(resumed.progress, seconds=0)
    assert straight.recommender.gates == resumed.recommender.gates


def test_an_update_leaves_the_serving_model_alone_and_follows_from_its_input() -> None:
    before = scores(base(), GEAR)
    weights = {k: v.clone() for k, v in base().system.transferred.neural.model.state_dict().items()}
    found, again = (base().update(growth(0.6, 0.75)) for _ in range(2))
    np.testing.assert_array_equal(scores(base(), GEAR), before)
    after = base().system.transferred.neural.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in weights.items())
    np.testing.assert_array_equal(scores(found.recommender, GEAR), scores(again.recommender, GEAR))
    assert not np.array_equal(scores(found.recommender, GEAR), before)


def test_parts_are_weighed_as_they_served(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed = []
    usual = refit.fit_blend

    def watched(parts, dataset, queries, *rest, **options):
        weighed.append((parts, queries.position))
        return usual(parts, dataset, queries, *rest, **options)

    monkeypatch.setattr(refit, "fit_blend", watched)
    told = growth(0.6, 0.8)
    update = base().update(told)
    champion, successor = base().grown(told), update.recommender
    neural = champion.system.transferred.neural.model.state_dict()
    parts, position = weighed[0]
    for name, value in parts["neural"].model.state_dict().items():
        torch.testing.assert_close(value, neural[name])
    # Questions on what the successor has learnt meanwhile are among them.
    assert successor.split.in_train[position].any()
    assert not champion.split.in_train[position].any()


def test_what_judged_an_update_is_learnt_by_the_next() -> None:
    first = base().update(growth(0.6, 0.75)).recommender
    held = ~first.split.in_train
    assert held.sum() == first.progress.held_back
    second = first.update(growth(0.75, 0.9)).recommender
    place = growth(0.75, 0.9).position
    assert second.split.in_train[place[held]].all()
    assert not np.isin(second.split.test.position, place).any()


def test_where_networks_rest_what_judged_is_counted_at_once() -> None:
    resting = with_settings(base(), "learning.passes=0")
    found = resting.update(growth(0.6, 0.75))
    done = found.recommender
    assert found.progress.held_back > 0
    assert found.verdict.n_questions > 0
    assert done.split.in_train.all()
    assert not len(done.split.test)
    for side in (done.system.transferred, *done.system.alone.values()):
        told = side.parts["co-occurrence"]
        events = done.dataset.events.only(*side.neural.reads)
        everything = CoOccurrence.fit(done.dataset, events, told.config)
        for array, other in zip(
            told.state().arrays.values(), everything.state().arrays.values(), strict=True
        ):
            np.testing.assert_array_equal(array, other)
    with pytest.raises(DataError, match="no question is held back"):
        done.evaluate()
    with pytest.raises(DataError, match="no question is held back"):
        against_drawn(done.dataset, done.split, negatives=1, seed=0)
    with pytest.raises(DataError, match="no question is held back"):
        rated_events(done.dataset, done.split)
    # Nothing is left, and what comes then is all that judges and weighs.
    with pytest.raises(TrainingError, match="0 new events are too few"):
        done.update()
    more = growth(0.75, 0.9)
    again = done.update(more)
    assert again.progress.learnt + again.progress.held_back == len(more.fresh)


def test_both_are_judged_with_company_counted_as_far(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watched(scorer, dataset, queries, config):
        asked.append(scorer)
        return served_gains(scorer, dataset, queries, config)

    monkeypatch.setattr(challenger, "served_gains", watched)
    fitted = with_settings(base(), "learning.passes=0")
    first = fitted.update(growth(0.6, 0.75)).recommender
    first.update(growth(0.75, 0.9))
    counting = [
        {
            blend.parts["co-occurrence"].counts_on
            for blend in (gated.transferred, *gated.alone.values())
        }
        for gated in asked
    ]
    # Fitted, it counts on to what it held back; updated, it has counted all that there was.
    assert counting == [{True}, {True}, {False}, {False}]


def test_company_goes_on_fading_as_it_was_found_to(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = with_settings(base(), "learning.passes=0")
    sides = (fitted.system.transferred, *fitted.system.alone.values())
    for side in sides:
        part = side.parts["co-occurrence"]
        monkeypatch.setattr(part, "config", part.config.model_copy(update={"fades_to": (0.3,)}))
    done = fitted.update(growth(0.6, 0.75)).recommender
    for side in (done.system.transferred, *done.system.alone.values()):
        assert side.parts["co-occurrence"].config.fades_to == (0.3,)


@pytest.fixture
def always_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What networks have learnt serves, be it better or worse."""
    monkeypatch.setattr(challenger, "with_better_networks", lambda system, *_: system)


def sabotage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a network learns, it knows nothing afterwards, and has the only word."""
    learn, chance = refit._learn, torch.Generator().manual_seed(0)

    def forgetful(side, student, lessons, course):
        log = learn(side, student, lessons, course)
        with torch.no_grad():
            for weight in student.parameters():
                weight.copy_(torch.randn(weight.shape, generator=chance))
        return log

    monkeypatch.setattr(refit, "_learn", forgetful)
    # And the other parts cannot make up for it.
    neural_alone = {"neural": 1.0}
    monkeypatch.setattr(
        refit,
        "drawn_towards",
        lambda now, before, n, memory: {name: neural_alone.get(name, 0.0) for name in now},
    )


def test_networks_that_have_learnt_the_wrong_things_are_left(monkeypatch) -> None:
    sabotage(monkeypatch)
    found = base().update(growth(0.6, 0.9))
    assert found.recommender.progress.rested
    assert "ranked worse and was left" in found.recommender.progress.reason
    before, after = base().system, found.recommender.system
    for one, other in [
        (before.transferred, after.transferred),
        *((side, after.alone[d]) for d, side in before.alone.items()),
    ]:
        assert other.parts["neural"] is other.neural is other.blend.parts["neural"]
        for name, weight in one.neural.model.state_dict().items():
            if "evidence" not in name:
                assert torch.equal(weight, other.neural.model.state_dict()[name])


def test_networks_that_have_learnt_what_was_missing_serve(monkeypatch) -> None:
    ignorant = deepcopy(base())
    for side in (ignorant.system.transferred, *ignorant.system.alone.values()):
        with torch.no_grad():
            for weight in side.neural.model.parameters():
                weight.copy_(0.1 * torch.randn_like(weight))
    monkeypatch.setattr(
        refit,
        "drawn_towards",
        lambda now, before, n, memory: {name: float(name == "neural") for name in now},
    )
    asked = with_settings(ignorant, "learning.passes=8", "learning.rate=2", "learning.distil=0")
    found = asked.update(growth(0.6, 0.9)).recommender
    assert not found.progress.rested
    assert found.system.transferred.neural is not ignorant.system.transferred.neural


@pytest.mark.parametrize(
    ("full", "luck", "taken"),
    [(False, 1.0, True), (True, 1.0, False), (True, 0.01, True), (False, -0.1, False)],
)
def test_a_full_fine_tune_serves_only_where_it_is_better_beyond_chance(
    monkeypatch: pytest.MonkeyPatch, full: bool, luck: float, taken: bool
) -> None:
    # Better by .01 on average, or worse where luck turns; by how much varies with `luck`.
    noise = luck * np.resize([-0.3, 0.3], 200)
    before = gains(*np.full(200, 0.5))
    after = replace(before, value=before.value + 0.01 * np.sign(luck) + noise)
    answers = iter([after, before])
    monkeypatch.setattr(challenger, "served_gains", lambda *_: next(answers))
    course = refit.Course(
        base().dataset, base().split, base().split.tuning, None, base().raw, base().config, 1, full
    )
    system = base().system
    assert len(course.split.tuning)
    assert (challenger.with_better_networks(system, system, course) is system) is taken


def test_a_sabotaged_challenger_is_kept_back(monkeypatch, always_learnt) -> None:
    sabotage(monkeypatch)
    found = base().update(growth(0.6, 0.9))
    assert not found.verdict.no_worse
    assert found.verdict.challenger < found.verdict.champion
    assert "is asked for" in found.verdict.reason


def gains(*values: float, domain: int = 0) -> Gains:
    n = len(values)
    return Gains(np.array(values), np.full(n, domain), np.arange(n), np.arange(n, dtype=float))


def joined(one: Gains, other: Gains) -> Gains:
    return Gains(
        *(
            np.concatenate([getattr(one, name), getattr(other, name)])
            for name in ("value", "domain", "user", "time")
        )
    )


def test_the_same_answers_are_no_worse_and_a_margin_is_granted() -> None:
    config = base().config
    rng = np.random.default_rng(0)
    old = gains(*rng.random(300))
    assert judge(old, old, ("books",), config).no_worse
    # A loss within the margin passes where chance may explain it.
    noise = rng.permutation(np.resize([-0.3, 0.3], 300))
    slightly = replace(old, value=old.value * 0.99 + noise)
    found = judge(old, slightly, ("books",), config)
    assert found.relative is not None
    assert -0.02 < found.relative[0] < 0 < found.relative[2]
    assert found.no_worse
    assert not judge(old, replace(old, value=old.value * 0.97), ("books",), config).no_worse


def test_a_loss_beyond_chance_is_refused_however_small() -> None:
    config = base().config
    old = gains(*np.random.default_rng(0).random(4000))
    found = judge(old, replace(old, value=old.value * 0.985), ("books",), config)
    assert found.confidence == 1.0
    assert not found.no_worse
    assert "that it is worse is beyond chance" in found.reason
    better = judge(old, replace(old, value=old.value * 1.015), ("books",), config)
    assert better.no_worse
    assert "beyond chance" not in better.reason


@pytest.mark.parametrize(
    ("questions", "people", "enough"),
    [(1, 1, False), (19, 19, False), (20, 9, False), (20, 10, True), (400, 1, False)],
)
def test_few_questions_or_people_cannot_tell(questions: int, people: int, enough: bool) -> None:
    asked = gains(*np.full(questions, 0.5))
    asked = replace(asked, user=np.arange(questions) % people)
    found = judge(asked, asked, ("books",), base().config)
    assert found.no_worse is enough
    assert (found.n_questions, found.n_people) == (questions, people)
    assert ("too few to judge by" in found.reason) is not enough


def test_one_domain_may_not_pay_for_another() -> None:
    config = base().config
    rng = np.random.default_rng(0)
    many, few = gains(*rng.random(500)), gains(*rng.random(60), domain=1)
    better = replace(many, value=np.minimum(many.value * 1.2, 1))
    worse = replace(few, value=few.value * 0.7)
    found = judge(joined(many, few), joined(better, worse), ("books", "gear"), config)
    assert found.relative is not None
    assert found.relative[0] > 0
    assert not found.no_worse
    assert "gear would be worse off" in found.reason


def test_nothing_to_judge_by_is_no_reason_to_take_over() -> None:
    none = gains()
    assert not judge(none, none, ("books",), base().config).no_worse


def test_too_little_that_is_new_is_refused() -> None:
    done = base().update(growth(0.6, 0.9)).recommender
    few = done.update().recommender  # what was held back, and a little of it held back again
    n = len(few.dataset.events)
    learnt = replace(few.split, in_train=np.ones(n, bool))
    nothing = Recommender(few.dataset, few.config, learnt, few.raw, few.system)
    with pytest.raises(TrainingError, match="0 new events are too few"):
        nothing.update()


def test_every_so_many_updates_everything_is_learnt_again() -> None:
    often = with_settings(base(), "learning.full_every=2")
    first = often.update(growth(0.6, 0.75))
    second = first.recommender.update(growth(0.75, 0.9))
    assert [first.progress.kind, second.progress.kind] == ["update", "full fine-tune"]
    assert first.progress.replayed <= 2.5 * first.progress.learnt
    in_train = second.recommender.split.train_events(second.recommender.dataset)
    targets = (np.diff(in_train.offsets) - 1).clip(0).sum()
    # Whatever anybody did after something else, new or old.
    assert targets - second.progress.learnt <= second.progress.replayed <= targets
    assert second.progress.since_full == 0


def test_a_fall_in_either_stream_is_drift_and_calls_for_a_full_fine_tune() -> None:
    dataset = whole()
    rng = np.random.default_rng(0)
    steady = replace(gains(*rng.random(600)))
    fallen = replace(steady, value=steady.value * 0.3)
    none = np.zeros(0, np.int64)
    watch = Watch.new(0.002)
    assert watch.look(steady, dataset, none) == ()
    assert watch.look(fallen, dataset, none) == (STREAMS[0],)
    # Many events make a shallow fall as sure, which is no drift.
    shallow = [gains(*np.full(2000, value)) for value in (0.3, 0.27)]
    for least, alarms in ((0.0, (STREAMS[0],)), (0.15, ())):
        other = Watch.new(0.002)
        assert other.look(shallow[0], dataset, none, least=least) == ()
        assert other.look(shallow[1], dataset, none, least=least) == alarms
    # That quality rises again after an update is no alarm.
    assert watch.look(steady, dataset, none) == ()

    alarmed = with_settings(base(), "learning.drift=true")
    alarmed.progress = replace(alarmed.progress, watch=_about_to_fall())
    found = alarmed.update(growth(0.6, 0.9))
    assert found.progress.drift == (STREAMS[1],)
    assert found.progress.kind == "full fine-tune"
    assert found.recommender.progress.reason.startswith("Drift in chosen items.")


def choices(*items: NDArray[np.int64]) -> Dataset:
    """One person who chooses these one after the other."""
    item = np.concatenate(items).astype(np.int32)
    n = len(item)
    catalogue = pl.DataFrame({"item_id": [f"i{i}" for i in range(item.max() + 1)]})
    events = Events.from_columns(
        1, np.zeros(n, np.int64), np.zeros(n, np.int16), item, np.arange(n, dtype=np.float64)
    )
    return Dataset((Domain("d", catalogue),), pl.Series("user_id", ["u"]), events)


def copied(watch: Watch) -> Watch:
    """Another that has seen the same."""
    return Watch.from_state(deepcopy(watch.state()))


def test_ever_newer_choices_are_no_drift_but_other_choices_are() -> None:
    rng = np.random.default_rng(0)
    none = gains()
    # Two in three choose what has been chosen before, the others what nobody has.
    growing = np.arange(3000)
    for event in np.flatnonzero(rng.random(2999) < 2 / 3)[1:]:
        growing[event] = growing[rng.integers(event)]
    dataset, watch = choices(growing), Watch.new(0.002)
    for start in (1000, 2000):
        until_then = replace(dataset, events=dataset.events.keep(np.arange(3000) < start + 1000))
        assert watch.look(none, until_then, np.arange(start, start + 1000)) == ()
    # What is new is known as soon as it has been chosen often.
    hit = choices(growing, np.full(600, 3000))
    assert copied(watch).look(none, hit, np.arange(3000, 3600)) == ()
    other = choices(growing, np.arange(3000, 3600))
    assert watch.look(none, other, np.arange(3000, 3600)) == (STREAMS[1],)


def _about_to_fall() -> dict:
    """A watch that has seen nothing but the best known items."""
    watch = Watch.new(0.002)
    watch.windows[STREAMS[1]].extend([1.0] * 600)
    return watch.state()


def test_a_killed_update_goes_on_from_its_checkpoint(tmp_path, monkeypatch) -> None:
    from isthmus.training import loop

    whole_run = base().update(growth(0.6, 0.75))
    real, calls = loop._Run.checkpoint, []

    def dying(self, folder):
        real(self, folder)
        calls.append(folder)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._Run, "checkpoint", dying)
    with pytest.raises(KeyboardInterrupt):
        base().update(growth(0.6, 0.75), folder=tmp_path)
    epochs = []
    run_epoch = loop._Run.epoch
    monkeypatch.setattr(
        loop._Run, "epoch", lambda self, v: (epochs.append(1), run_epoch(self, v))[1]
    )
    resumed = base().update(growth(0.6, 0.75), folder=tmp_path)
    # Two passes for each of three sides, one of which was done before the kill.
    assert len(epochs) == 5
    for domain in (BOOKS, GEAR):
        one, other = scores(resumed.recommender, domain), scores(whole_run.recommender, domain)
        np.testing.assert_array_equal(one, other)


def test_served_gains_are_those_of_the_evaluator() -> None:
    found = served_gains(
        base().system.gated, base().dataset, base().split.test, base().config, cutoff=10
    )
    measured = base().evaluate()
    for d, name in ((BOOKS, "books"), (GEAR, "gear")):
        mine = found.value[found.domain == d].mean()
        # Evaluation asks cold users again as another slice; the plain questions come first.
        n = (found.domain == d).sum()
        theirs = measured[name]["gated"].values["ndcg@10"][:n].mean()
        assert mine == pytest.approx(theirs)
    how = (base().system.gated, base().dataset)
    at_10, at_100 = gains_at(*how, base().split.test, base().config, [10, 100])
    np.testing.assert_array_equal(at_10.value, found.value)
    np.testing.assert_array_equal(at_10.user, found.user)
    assert (at_100.value >= at_10.value).all()
    none = Queries(np.empty(0, np.int64))
    assert not len(served_gains(*how, none, base().config))


def test_old_part_weights_count_as_the_questions_they_rest_on_and_no_more() -> None:
    step = growth(0.6, 0.75)
    now, pooled = (
        with_settings(base(), f"learning.weight_memory={memory}").update(step).recommender
        for memory in (0, 1_000_000)
    )
    for domain, before in base().system.transferred.fitted.items():
        tonight, found = (r.system.transferred.fitted[domain] for r in (now, pooled))
        share = 1 - len(before.gain) / len(found.gain)
        assert 0 < share < 1
        for name, weight in found.weights.items():
            expected = share * tonight.weights[name] + (1 - share) * before.weights[name]
            assert weight == pytest.approx(expected)


def test_settings_hold_for_one_update_and_are_said(caplog) -> None:
    told = growth(0.6, 0.75)
    found = base().update(told, settings=["learning.replay=0", "learning.distil=0"])
    assert found.progress.replayed == 0 < base().update(told).progress.replayed
    assert found.progress.settings == ("learning.replay=0", "learning.distil=0")
    assert Progress.from_json(found.progress.as_json()) == found.progress
    assert found.recommender.config == base().config
    assert not caplog.records
    for wrong, complaint in (
        ("training.epochs=3", r"'training\.epochs' is settled when a model is fitted"),
        ("learning.pases=1", "unknown key 'learning.pases'. Did you mean 'passes'"),
        ("learning.passes", "is not KEY=VALUE"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            base().update(told, settings=[wrong])


def test_what_is_set_for_nothing_is_warned_of(caplog) -> None:
    asked = ["learning.passes=0", "learning.elastic=1", "learning.replay=1"]
    base().update(growth(0.6, 0.75), settings=asked)
    assert "learning.replay, learning.elastic" in caplog.text
    caplog.clear()
    base().update(growth(0.6, 0.75), settings=["learning.passes=0"])
    assert not caplog.records


def test_an_update_leaves_the_other_cores_to_the_service(monkeypatch) -> None:
    def threads(*_: object, **__: object) -> None:
        raise RuntimeError(
            {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
        )

    monkeypatch.setattr(updating, "challenge", threads)
    with pytest.raises(RuntimeError, match=r"^\{1\}$"):
        base().update(growth(0.6, 0.8))


def test_versions_that_find_nothing_are_alike_and_no_percentage_is_made_up() -> None:
    config = base().config
    nothing = gains(*np.zeros(60))
    same = judge(nothing, nothing, ("books",), config)
    assert same.no_worse
    assert same.relative == (0.0, 0.0, 0.0)
    something = replace(nothing, value=np.where(np.arange(60) < 20, 0.5, 0.0))
    better = judge(nothing, something, ("books",), config)
    assert better.no_worse
    assert better.relative is None
    assert "has NDCG@100 0.1667 where the one before has 0.0000" in better.reason
    # In a draw or two of a thousand the one before may find nothing, and that is no end.
    few = replace(nothing, value=np.where(np.arange(60) < 6, 0.5, 0.0))
    change = judge(few, something, ("books",), config).relative
    assert change is not None
    assert 0 < change[1] < change[0] == pytest.approx(20 / 6 - 1)
    worse = judge(something, nothing, ("books",), config)
    assert not worse.no_worse
    assert "worse is beyond chance" in worse.reason


def test_an_update_offers_seen_items_where_the_evaluation_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = []
    usual = refit.fit_blend

    def watched(*given, exclude_seen, **options):
        offered.append(not exclude_seen)
        return usual(*given, exclude_seen=exclude_seen, **options)

    monkeypatch.setattr(refit, "fit_blend", watched)
    resting = with_settings(base(), "learning.passes=0", "evaluation.exclude_seen=false")
    resting.update(growth(0.6, 0.75))
    assert offered
    assert all(offered)


def test_of_very_many_new_questions_a_fixed_choice_weighs_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weighed = []
    usual = refit.fit_blend

    def watched(parts, dataset, queries, *rest, **options):
        weighed.append(queries.position.tolist())
        return usual(parts, dataset, queries, *rest, **options)

    monkeypatch.setattr(refit, "fit_blend", watched)
    monkeypatch.setattr("isthmus.transfer.judges.MOST", 25)
    with_settings(base(), "learning.passes=0").update(growth(0.6, 0.75))
    assert {len(asked) for asked in weighed} == {25}
    assert len({tuple(asked) for asked in weighed}) == 2, "one choice in each domain, for all sides"
