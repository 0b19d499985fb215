from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from blend_world import Table, TableScorer, requests_of, tables
from numpy.typing import NDArray

from isthmus.blend import Blend, FittedWeights, Gated, GateDecision, SliceGate, decide, fit_blend
from isthmus.blend.gate import lengths
from isthmus.config import BlendConfig, EvaluationConfig
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.splits import Queries
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Request, Requests, Scorer, Scores, pick

# The gate


def _judged(gain: NDArray[np.float64]) -> FittedWeights:
    return FittedWeights({"a": 1.0}, gain, np.arange(len(gain)))


def _decide(shift: float, n: int = 800, config: BlendConfig | None = None) -> GateDecision:
    rng = np.random.default_rng(2)
    alone = rng.random(n) * (rng.random(n) < 0.3)
    transferred = np.clip(alone + rng.normal(shift, 0.2, n), 0, 1)
    # Clipping moves the mean; put it where it was meant to be.
    transferred += alone.mean() + shift - transferred.mean()
    return decide(_judged(transferred), _judged(alone), config or BlendConfig())


def test_the_gate_opens_on_planted_help():
    decision = _decide(0.03)
    assert (decision.weight, decision.reason[-5:]) == (1.0, "open.")
    assert decision.confidence > 0.95
    assert decision.relative is not None
    change, low, high = decision.relative
    assert 0 < low < change < high
    assert change == pytest.approx(0.03 / 0.15, rel=0.15)


@pytest.mark.parametrize("shift", [0.0, -0.005, -0.03])
def test_the_gate_shuts_on_planted_harm_or_no_difference(shift):
    decision = _decide(shift)
    assert decision.weight == 0
    assert "shut" in decision.reason


def test_equal_sides_speak_for_neither():
    gain = np.random.default_rng(0).random(200)
    decision = decide(_judged(gain), _judged(gain.copy()), BlendConfig())
    assert (decision.weight, decision.confidence) == (0.0, 0.5)


def test_the_gate_opens_with_confidence():
    decisions = [_decide(shift) for shift in np.linspace(-0.02, 0.03, 30)]
    confidence = [d.confidence for d in decisions]
    weight = [d.weight for d in decisions]
    assert confidence == sorted(confidence)
    assert weight == sorted(weight)
    between = [d for d in decisions if 0 < d.weight < 1]
    assert between
    for d in between:
        assert d.weight == pytest.approx((d.confidence - 0.5) / 0.4)
        assert "open by" in d.reason


def test_people_with_many_questions_are_one_witness_each():
    gain = np.full(400, 0.05)
    better = gain.copy()
    better[:300] = 1.0
    user = np.concatenate([np.zeros(300, np.int64), np.arange(1, 101)])
    better[300:] += np.random.default_rng(0).normal(0, 0.01, 100)
    one = decide(FittedWeights({}, better, user), FittedWeights({}, gain, user), BlendConfig())
    assert one.confidence < 0.95


def test_without_a_question_the_gate_is_shut_and_says_so():
    decision = decide(_judged(np.zeros(0)), _judged(np.zeros(0)), BlendConfig())
    assert decision.weight == 0
    assert "no validation question" in decision.reason
    assert decision.relative is None


@pytest.mark.parametrize("n", [0, 300])
def test_a_gate_that_is_off_lets_everything_through(n):
    decision = decide(_judged(np.zeros(n)), _judged(np.ones(n)), BlendConfig(gate=False))
    assert decision.weight == 1


# Both sides together


def _sides() -> tuple[Blend, Blend, TableScorer, TableScorer]:
    one, two = (TableScorer(t) for t in tables(5, 20, 2))
    weights = {0: {"a": 1.0}, 1: {"a": 1.0}}
    return Blend({"a": one}, weights), Blend({"a": two}, weights), one, two


def test_a_gate_of_nought_or_one_is_one_side_alone():
    transferred, alone, one, two = _sides()
    requests = requests_of(5)
    shut = Gated(transferred, {0: alone}, {0: GateDecision(0.0)}).score(requests, 0)
    assert np.array_equal(shut.total, alone.score(requests, 0).total)
    assert not one.asked
    two.asked.clear()
    open_ = Gated(transferred, {0: alone}, {0: GateDecision(1.0)}).score(requests, 0)
    assert np.array_equal(open_.total, transferred.score(requests, 0).total)
    assert not two.asked


def test_a_gate_half_open_is_the_mean_of_both():
    transferred, alone, *_ = _sides()
    requests = requests_of(5)
    half = Gated(transferred, {0: alone}, {0: GateDecision(0.5)}).score(requests, 0)
    mean = (transferred.score(requests, 0).total + alone.score(requests, 0).total) / 2
    np.testing.assert_allclose(half.total, mean, atol=1e-6)
    np.testing.assert_allclose(half.parts["a"], mean, atol=1e-6)


def test_a_domain_without_a_side_of_its_own_uses_the_transferred_one():
    transferred, alone, *_ = _sides()
    requests = requests_of(5)
    gated = Gated(transferred, {0: alone}, {0: GateDecision(0.0), 1: GateDecision(0.0)})
    assert np.array_equal(gated.score(requests, 1).total, transferred.score(requests, 1).total)


# Groups of people


def _history(own: int, elsewhere: int = 1) -> Request:
    return Request(history=[(0, 0)] * elsewhere + [(1, 0)] * own)


def _by_length(*weights: float) -> GateDecision:
    """Weights of newcomers, of people with 1–3 events and of people with more, source or none."""
    bounds = ((0, 0), (1, 3), (4, None))
    slices = [
        SliceGate(low, high, elsewhere, weight)
        for (low, high), weight in zip(bounds, weights, strict=True)
        for elsewhere in (True, False)
    ]
    return GateDecision(0.5, slices=tuple(slices))


def test_everybody_has_one_group_by_what_the_request_carries():
    decision = _by_length(0.1, 0.2, 0.3)
    asked = Requests.of([_history(n) for n in (0, 1, 3, 4, 99)] + [Request(), _history(2, 0)])
    expected = np.array([0.1, 0.2, 0.2, 0.3, 0.3, 0.1, 0.2], np.float32)
    assert np.array_equal(decision.weights(asked, 1), expected)
    # For the other domain the same histories count the other way round.
    assert np.array_equal(decision.weights(asked.select(np.array([0])), 0), expected[1:2])
    assert decision.everywhere is None
    assert _by_length(1, 1, 1).everywhere == 1
    assert GateDecision(0.25).everywhere == 0.25


@pytest.mark.parametrize("per_row", [False, True])
def test_a_batch_may_mix_groups_and_a_side_is_asked_for_its_own_only(per_row):
    transferred, alone, one, two = _sides()
    gated = Gated(transferred, {1: alone}, {1: _by_length(1.0, 0.0, 0.5)})
    asked = Requests.of(
        [
            Request(history=r.history, user=user)
            for user, r in enumerate([_history(0), _history(2), _history(7), _history(1)])
        ]
    )
    items = np.random.default_rng(0).integers(0, 20, (4, 6)) if per_row else np.array([3, 0, 11])
    scores = gated.score(asked, 1, items)
    assert [r.user.tolist() for r in one.asked] == [[0, 2]]
    assert [r.user.tolist() for r in two.asked] == [[1, 2, 3]]
    of_all, of_one = (side.score(asked, 1, items) for side in (transferred, alone))
    expected = of_one.total.copy()
    expected[0] = of_all.total[0]
    expected[2] = (of_all.total[2] + of_one.total[2]) / 2
    np.testing.assert_allclose(scores.total, expected, atol=1e-6)
    np.testing.assert_allclose(scores.parts["a"], expected, atol=1e-6)


def test_groups_by_length_hold_about_as_many_and_nobody_twice():
    rng = np.random.default_rng(0)
    own, user = rng.poisson(12, 3000) * (rng.random(3000) < 0.9), np.arange(3000)
    groups = lengths(own, user, 100)
    (first, a), (b, c), (d, last) = groups
    assert (first, b, d, last) == (1, a + 1, c + 1, None)
    sizes = [((own >= low) & (own <= (high or 99))).sum() for low, high in groups]
    assert sum(sizes) == (own > 0).sum()
    assert min(sizes) > 0.7 * max(sizes)
    # Where a length has many questions, the cut that comes nearest is taken.
    three = np.repeat([2, 5, 9], [330, 300, 330])
    assert lengths(three, np.arange(960), 100) == [(1, 2), (3, 5), (6, None)]
    # Few people are cut into fewer groups, and one person's many questions are one person's.
    assert len(lengths(own[:500], user[:500], 100)) == 2
    assert lengths(own[:300], user[:300], 100) == [(1, None)]
    assert lengths(own, user % 150, 100) == [(1, None)]
    assert lengths(np.ones(900, np.int64), np.arange(900), 100) == [(1, None)]
    assert lengths(np.zeros(900, np.int64), np.arange(900), 100) == [(1, None)]


@pytest.mark.parametrize(
    ("least", "most", "elsewhere", "words"),
    [
        (0, 0, True, "people new to gear"),
        (0, 0, False, "people without any history"),
        (1, 1, True, "people with 1 event in gear and a history elsewhere"),
        (2, 5, False, "people with 2–5 events in gear and none elsewhere"),
        (6, None, True, "people with 6 or more events in gear and a history elsewhere"),
        (1, None, False, "people with any events in gear and none elsewhere"),
    ],
)
def test_groups_are_told_in_words(least, most, elsewhere, words):
    assert SliceGate(least, most, elsewhere, 0.0).people("gear") == words


# What is decided for each group


class Reader:
    """Knows a person by their own book, or by their row once they have an event that it reads."""

    name = "reader"

    def __init__(self, table: Table, reads: tuple[int, ...]) -> None:
        self.table, self.reads = table, reads

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        read = requests.keep(np.isin(requests.domain, self.reads))
        who = np.full(len(requests), -1)
        books = read.domain == 0
        who[read.rows[books]] = read.item[books]
        who = np.where((read.lengths > 0) & (requests.user >= 0), requests.user, who)
        return Scores(pick(np.where(who[:, None] >= 0, self.table[who], np.float32(0)), items))


def _shop(
    own: NDArray[np.int64], reader: NDArray[np.bool_], wish: Table
) -> tuple[Dataset, NDArray[np.int64]]:
    """Readers take a book of their own, everybody some gear at random, then what they wish for."""
    rng = np.random.default_rng(3)
    n_users, n_gear = wish.shape
    user, domain, item = [], [], []
    for u in range(n_users):
        gear = rng.choice(n_gear, own[u], replace=False)
        left = wish[u].copy()
        left[gear] = -np.inf
        books = [u] if reader[u] else []
        domain += [0] * len(books) + [1] * (own[u] + 1)
        item += [*books, *gear, left.argmax()]
        user += [u] * (len(books) + own[u] + 1)
    columns = np.array(user), np.array(domain, np.int16), np.array(item, np.int32)
    events = Events.from_columns(n_users, *columns, np.arange(len(user), dtype=np.float64))
    ids = [
        pl.DataFrame({"item_id": [f"{n}{i}" for i in range(m)]})
        for n, m in (("b", n_users), ("g", n_gear))
    ]
    dataset = Dataset(
        (Domain("books", ids[0]), Domain("gear", ids[1])),
        pl.Series("user_id", [f"u{u}" for u in range(n_users)]),
        events,
    )
    return dataset, events.offsets[1:] - 1


def _fitted(scorer: Scorer, dataset: Dataset, asked: NDArray[np.int64], **config: float):
    how = {"batch": 256, "max_history": 50, "seed": 0}
    return fit_blend({"a": scorer}, dataset, Queries(asked), 1, BlendConfig(**config), **how)


@pytest.fixture(scope="module")
def help_and_harm():
    """Transfer is right about people with 1 or 2 events and wrong about those with 8–10."""
    n_users, n_gear = 2400, 60
    rng = np.random.default_rng(0)
    short = rng.random(n_users) < 2 / 3
    own = np.where(short, rng.integers(1, 3, n_users), rng.integers(8, 11, n_users))
    reader = rng.random(n_users) < 0.7
    wish, *noise = tables(n_users, n_gear, 3)
    blurred, clear = 2.0, 0.7
    of_all = wish + noise[0] * np.where(short, clear, blurred).astype(np.float32)[:, None]
    of_one = wish + noise[1] * np.where(short, blurred, clear).astype(np.float32)[:, None]
    dataset, answers = _shop(own, reader, wish)
    return dataset, answers, Reader(of_all, (0, 1)), Reader(of_one, (1,))


def test_help_for_some_and_harm_for_others_are_told_apart(help_and_harm):
    dataset, answers, of_all, of_one = help_and_harm
    tuning, test = answers[:1200], answers[1200:]
    sides = [_fitted(scorer, dataset, tuning) for scorer in (of_all, of_one)]
    decision = decide(*sides, BlendConfig(), target="gear")
    by_people = {part.people("gear"): part for part in decision.slices}
    for beside in ("a history elsewhere", "none elsewhere"):
        assert by_people[f"people with 1 event in gear and {beside}"].weight == 1
        assert by_people[f"people with 2 events in gear and {beside}"].weight == 1
        assert by_people[f"people with 3 or more events in gear and {beside}"].weight == 0
    new = by_people["people new to gear"]
    assert (new.weight, new.asked_again) == (1.0, new.n)
    assert new.n == sides[0].newcomer_gain.size > 700
    for part in decision.slices:
        if part.shrunk:
            value, low, high = part.shrunk
            assert low <= value <= high
            assert (value > 0) == (part.weight == 1)
    assert "3 or more events in gear" in decision.reason

    blends = [Blend({"a": scorer}, {1: {"a": 1.0}}) for scorer in (of_all, of_one)]
    gated = Gated(blends[0], {1: blends[1]}, {1: decision})
    flat = Gated(blends[0], {1: blends[1]}, {1: GateDecision(decision.weight)})
    ndcg = {
        name: per_query(rank(s, dataset, Queries(test), 1, config=EvaluationConfig()), [10])[
            "ndcg@10"
        ].mean()
        for name, s in (("gated", gated), ("all", blends[0]), ("one", blends[1]), ("flat", flat))
    }
    assert ndcg["gated"] > 1.15 * max(ndcg["all"], ndcg["one"])
    assert ndcg["gated"] > 1.05 * ndcg["flat"]


def test_newcomers_are_asked_without_what_they_had_and_not_offered_it(help_and_harm):
    dataset, answers, of_all, _ = help_and_harm
    seen: list[Requests] = []

    class Watched(Reader):
        def score(self, requests, domain, items=None):
            seen.append(requests)
            return super().score(requests, domain, items)

    fitted = _fitted(Watched(of_all.table, of_all.reads), dataset, answers[:300])
    hidden = [r for r in seen if (r.user == -1).all()]
    readers = {u for u in range(300) if dataset.events.domain[dataset.events.offsets[u]] == 0}
    assert sum(len(r) for r in hidden) == len(readers) == len(fitted.newcomer_gain)
    assert set(fitted.newcomer_user.tolist()) == readers
    assert all((r.domain == 0).all() and (r.lengths == 1).all() for r in hidden)
    assert np.array_equal(fitted.elsewhere > 0, np.isin(fitted.user, list(readers)))
    assert fitted.own.min() == 1
    assert fitted.own.max() == 10
    # The same table and the same seen items left out: a person's book tells as much as their row.
    known = dict(zip(fitted.user.tolist(), fitted.gain.tolist(), strict=True))
    again = [known[user] for user in fitted.newcomer_user.tolist()]
    assert np.mean(np.array(again) == fitted.newcomer_gain) > 0.9


def test_fewer_newcomers_are_the_same_fixed_users_as_in_evaluation(help_and_harm):
    from isthmus.evaluation.slices import cold_users

    dataset, answers, of_all, _ = help_and_harm
    some = _fitted(of_all, dataset, answers[:300], cold_share=0.2)
    assert 0 < len(some.newcomer_user) < 100
    assert cold_users(dataset, 0.2)[some.newcomer_user].all()
    none = _fitted(of_all, dataset, answers[:300], cold_share=0.0)
    assert not len(none.newcomer_gain)


def _drawn(effects: list[float], seed: int, n: int = 1200, base: float = 0.15):
    """Both sides' gains on questions of people in three lengths, with a history elsewhere or not.

    The transferred side keeps three of four successes of the other and has new ones, so that it is
    ahead by the share in `effects`, one for each length.
    """
    rng = np.random.default_rng(seed)
    length = rng.integers(0, 3, n)
    change = np.array(effects)[length]
    alone = np.where(rng.random(n) < base, rng.uniform(0.3, 1, n), 0)
    kept = np.where(rng.random(n) < 0.75, alone, 0)
    new = rng.random(n) < base * (0.25 + change) / (1 - base)
    transferred = np.where((alone == 0) & new, rng.uniform(0.3, 1, n), kept)
    return [
        FittedWeights({}, gain, np.arange(n), np.array([2, 5, 9])[length], rng.integers(0, 2, n))
        for gain in (transferred, alone)
    ]


@pytest.mark.parametrize("effect", [0.4, 0.0, -0.1])
def test_groups_that_do_not_differ_agree(effect):
    found = [decide(*_drawn([effect] * 3, seed), BlendConfig()) for seed in range(16)]
    judged = [[part for part in d.slices if part.shrunk] for d in found]
    assert {len(parts) for parts in judged} == {6}
    for_all = np.array(
        [
            decide(*_drawn([effect] * 3, s), BlendConfig(slice_users=10_000)).weight
            for s in range(16)
        ]
    )
    weight = np.array([[part.weight for part in parts] for parts in judged])
    assert np.mean(np.abs(weight - for_all[:, None]) > 0.5) < 0.08
    assert abs(weight.mean() - for_all.mean()) < 0.1
    measured, shrunk = (
        np.array([[np.log1p(getattr(part, kind)[0]) for part in parts] for parts in judged])
        for kind in ("measured", "shrunk")
    )
    assert shrunk.std(1).mean() < 0.4 * measured.std(1).mean()


def test_groups_that_differ_are_decided_apart():
    found = [decide(*_drawn([0.5, 0.0, -0.4], seed), BlendConfig()) for seed in range(12)]
    weight = np.array([[part.weight for part in d.slices if part.shrunk] for d in found])
    few, some, many = weight.mean(0).reshape(2, 3).mean(0)
    assert few > 0.7
    assert many < 0.05
    assert many <= some <= few


def test_people_too_few_to_judge_share_the_decision_for_all():
    sides = _drawn([0.5, 0.5, 0.5], 0)
    decision = decide(*sides, BlendConfig(slice_users=5000), target="gear")
    assert {part.weight for part in decision.slices} == {decision.weight} == {1.0}
    assert all(part.shrunk is part.confidence is None for part in decision.slices)
    assert "but" not in decision.reason
    # So do people whom nobody has asked about.
    decision = decide(*sides, BlendConfig())
    new = next(part for part in decision.slices if part.most == 0)
    assert (new.n, new.weight, new.shrunk) == (0, 1.0, None)


def _with_newcomers(sides: list[FittedWeights], newcomers: tuple[float, float]):
    """Both sides with 600 people asked again; the shares of successes are given."""
    rng = np.random.default_rng(5)
    return [
        replace(
            side,
            newcomer_gain=np.where(rng.random(600) < share, 0.6, 0.0),
            newcomer_user=np.arange(600),
        )
        for side, share in zip(sides, newcomers, strict=True)
    ]


def test_few_people_without_a_history_elsewhere_are_judged_together():
    few = (np.arange(1200) >= 70).astype(np.int64)
    sides = [replace(side, elsewhere=few) for side in _drawn([0.3] * 3, 0)]
    decision = decide(*sides, BlendConfig())
    cuts: dict[bool, list[tuple[int, int | None, bool]]] = {True: [], False: []}
    for part in decision.slices:
        if part.most != 0:
            cuts[part.elsewhere].append((part.least, part.most, part.shrunk is not None))
    assert cuts == {
        True: [(1, 2, True), (3, 5, True), (6, None, True)],
        False: [(1, None, True)],
    }


def test_newcomers_are_judged_by_their_own_questions():
    harmed, helped = _drawn([-0.3] * 3, 1), _drawn([0.4] * 3, 1)
    opened = decide(*_with_newcomers(harmed, (0.2, 0.1)), BlendConfig(), target="gear")
    assert opened.weight == 0
    assert [p.weight for p in opened.slices if p.asked_again] == [1.0]
    assert opened.everywhere is None
    assert "shut, but open for people new to gear, +" in opened.reason
    shut = decide(*_with_newcomers(helped, (0.1, 0.2)), BlendConfig(), target="gear")
    assert shut.weight == 1
    assert [p.weight for p in shut.slices if p.asked_again] == [0.0]
    assert "open, but shut for people new to gear, -" in shut.reason
    # Without one success on either side they have no say.
    silent = decide(*_with_newcomers(helped, (0.0, 0.0)), BlendConfig())
    assert [p.weight for p in silent.slices if p.asked_again] == [1.0]


def test_newcomers_are_not_taken_for_the_others_where_they_look_alike():
    """A gain that others do not have is believed before it stands out of the noise."""
    level = _drawn([0.0] * 3, 1, n=900)
    decision = decide(*_with_newcomers(level, (0.13, 0.1)), BlendConfig(), target="gear")
    (newcomers,) = (part for part in decision.slices if part.asked_again)
    assert newcomers.measured is not None
    assert newcomers.shrunk is not None
    assert decision.relative is not None
    low, all_, own = decision.relative[0], newcomers.shrunk[0], newcomers.measured[0]
    assert low < all_ < own
    assert all_ > low + 0.4 * (own - low)


def test_newcomers_say_nothing_of_how_much_the_others_differ():
    sides = _drawn([0.2] * 3, 1)
    without = decide(*sides, BlendConfig())
    beside = decide(*_with_newcomers(sides, (0.3, 0.05)), BlendConfig())
    for one, other in zip(without.slices, beside.slices, strict=True):
        if one.shrunk:
            assert other.shrunk == pytest.approx(one.shrunk)
    # Nor does it take anybody else to judge them.
    few = _drawn([0.2] * 3, 1, n=900)
    only = decide(*_with_newcomers(few, (0.3, 0.05)), BlendConfig(slice_users=550))
    assert [part.most for part in only.slices if part.shrunk] == [0]


def test_equal_sides_are_shut_for_everybody():
    same = _drawn([0.0] * 3, 0)[0]
    decision = decide(same, same, BlendConfig())
    assert decision.everywhere == 0
    assert all(part.confidence == 0.5 for part in decision.slices if part.shrunk)


def test_what_was_fitted_without_histories_is_decided_for_all_at_once():
    sides = [FittedWeights({}, s.gain, s.user) for s in _drawn([0.5] * 3, 0)]
    decision = decide(*sides, BlendConfig())
    assert (decision.slices, decision.weight) == ((), 1.0)
    off = decide(*_drawn([-0.4] * 3, 0), BlendConfig(gate=False))
    assert (off.slices, off.weight) == ((), 1.0)


def test_a_gain_over_nothing_is_told_in_words():
    gain = np.zeros(200)
    gain[:2] = 0.3
    reason = decide(_judged(gain), _judged(np.zeros(200)), BlendConfig()).reason
    assert "changes NDCG@10 by more than a thousandfold, for without it next to nothing" in reason
    equal = decide(_judged(gain), _judged(gain[::-1].copy()), BlendConfig()).reason
    assert "changes NDCG@10 by +0.0%" in equal
