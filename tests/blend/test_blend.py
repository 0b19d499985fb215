from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from blend_world import Table, TableScorer, requests_of, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.blend import (
    Blend,
    Examples,
    FittedWeights,
    Gated,
    GateDecision,
    fit_blend,
    fit_weights,
    gains,
    gather,
    standardise,
)
from isthmus.blend.fitting import (
    HELD,
    SMOOTHNESS,
    START,
    Rivals,
    direction,
    most_likely,
    nearer_the_top,
)
from isthmus.config import BlendConfig, EvaluationConfig
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.splits import Queries, user_hash
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Scorer, Scores, pick


def _world(utility: Table, seed: int = 0) -> tuple[Dataset, Queries]:
    """Each user takes one item at random, then the unseen one of most utility."""
    n_users, n_items = utility.shape
    rng = np.random.default_rng(seed)
    first = rng.integers(0, n_items, n_users)
    wanted = utility.copy()
    wanted[np.arange(n_users), first] = -np.inf
    item = np.column_stack([first, wanted.argmax(1)]).ravel()
    events = Events.from_columns(
        n_users,
        np.repeat(np.arange(n_users), 2),
        np.zeros(2 * n_users, np.int16),
        item.astype(np.int32),
        np.arange(2 * n_users, dtype=np.float64),
    )
    ids = pl.DataFrame({"item_id": [f"i{i}" for i in range(n_items)]})
    users = pl.Series("user_id", [f"u{u}" for u in range(n_users)])
    return Dataset((Domain("d", ids),), users, events), Queries(np.arange(1, 2 * n_users, 2))


def _choices(parts: list[Table], weights: list[float], seed: int = 1) -> Table:
    """Utilities whose largest is a draw from the softmax of the weighted, standardised parts."""
    noise = np.random.default_rng(seed).gumbel(size=parts[0].shape)
    meant = sum(w * standardise(p) for w, p in zip(weights, parts, strict=True))
    return (meant + noise).astype(np.float32)


def _gather(parts: list[Table], dataset: Dataset, queries: Queries, **how: int) -> Examples:
    named: dict[str, Scorer] = {str(k): TableScorer(p) for k, p in enumerate(parts)}
    usual = {"batch": 128, "max_history": 20, "seed": 0}
    return gather(named, dataset, queries, 0, **{**usual, **how})


# Standardising


def test_standardised_scores_have_no_scale_and_no_origin():
    scores = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    plain = standardise(scores)
    np.testing.assert_allclose(standardise(scores * 40 + 7), plain, atol=1e-4)
    z = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    np.testing.assert_allclose(plain, z + np.arcsinh(z), atol=1e-4)
    assert (np.argsort(plain, axis=1) == np.argsort(scores, axis=1)).all()


def test_a_row_without_spread_has_no_opinion():
    assert (standardise(np.full((2, 5), 3.0, np.float32)) == 0).all()


def test_a_part_that_is_sure_of_one_item_stays_sure():
    scores = np.zeros((1, 1000), np.float32)
    scores[0, 3] = 1.0
    assert 31 < standardise(scores)[0, 3] < 40  # 31.6 deviations, and their asinh


# Blending


def test_parts_add_up_to_the_total():
    drawn = tables(6, 30, 3)
    blend = Blend(
        {"a": TableScorer(drawn[0]), "b": TableScorer(drawn[1]), "c": TableScorer(drawn[2])},
        {0: {"a": 1.0, "b": 0.3, "c": 0.0}, 1: {"a": 0.0, "b": 0.0, "c": 2.0}},
    )
    scores = blend.score(requests_of(6), 0)
    np.testing.assert_allclose(sum(scores.parts.values()), scores.total, atol=1e-6)
    np.testing.assert_allclose(scores.parts["b"], 0.3 * standardise(drawn[1]), atol=1e-6)
    assert not scores.parts["c"].any()
    other = blend.score(requests_of(6), 1)
    np.testing.assert_allclose(other.total, 2 * standardise(drawn[2]), atol=1e-6)


@pytest.mark.parametrize(
    "items", [np.array([4, 0, 29]), np.random.default_rng(0).integers(0, 30, (6, 5))]
)
def test_candidates_score_as_in_the_whole_catalogue(items):
    drawn = tables(6, 30, 2)
    parts = {"a": TableScorer(drawn[0]), "b": TableScorer(drawn[1])}
    blend = Blend(parts, {0: {"a": 1.0, "b": 0.5}})
    gated = Gated(blend, {0: Blend(parts, {0: {"a": 0.2, "b": 0.9}})}, {0: GateDecision(0.4)})
    for scorer in (blend, gated):
        whole, some = scorer.score(requests_of(6), 0), scorer.score(requests_of(6), 0, items)
        assert np.array_equal(some.total, pick(whole.total, items))
        for name in ("a", "b"):
            assert np.array_equal(some.parts[name], pick(whole.parts[name], items))


# Fitting weights


def test_planted_weights_are_found():
    parts = tables(2500, 120, 3)
    dataset, queries = _world(_choices(parts, [1.0, 0.5, 0.0]))
    weights = fit_weights(_gather(parts, dataset, queries))
    assert weights[0] == pytest.approx(1.0, abs=0.08)
    assert weights[1] == pytest.approx(0.5, abs=0.08)
    assert weights[1] / weights[0] == pytest.approx(0.5, abs=0.07)
    assert 0 < weights[2] < 0.06


def test_the_top_of_the_lists_decides_before_answers_that_nothing_foresees():
    # The first part puts six answers in ten on top and the others far below everything, for which
    # a likelihood holds it back; the second finds each of them a little more often than chance.
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(400, 201, 2)).astype(np.float32)
    scores[:, 0, 0] = np.where(rng.random(400) < 0.6, 3.0, -2.5)
    scores[:, 0, 1] += 1
    examples = Examples(scores, np.ones((400, 201), np.float32), np.arange(400))
    likeliest = most_likely(Rivals.of(examples), 1e-3)
    found = fit_weights(examples)
    assert found[0] / found[1] > 2 * likeliest[0] / likeliest[1]
    assert gains(examples, found).mean() > 1.2 * gains(examples, likeliest).mean()
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(likeliest), rel=1e-3)
    # A few questions do not tell where the top is.
    few = examples.where(np.arange(400) < 99)
    likeliest = most_likely(Rivals.of(few), 1e-3)
    np.testing.assert_allclose(fit_weights(few), likeliest, atol=1e-5)


def test_no_weights_nearby_are_better_than_those_found():
    parts = tables(300, 200, 3)
    dataset, queries = _world(_choices(parts, [1.0, 0.5, 0.2]))
    examples = _gather(parts, dataset, queries)
    rivals = Rivals.of(examples)
    likeliest = most_likely(rivals, 0.0)
    top = nearer_the_top(rivals, likeliest)

    def surprise(weights: np.ndarray) -> float:
        total = np.exp(examples.scores @ weights) * examples.stands_for
        return float(-np.log(total[:, 0] / total.sum(1)).mean())

    def smooth_loss(weights: np.ndarray) -> float:
        total = examples.scores @ (weights / np.linalg.norm(weights))
        above = 1 / (1 + np.exp(-(total[:, 1:] - total[:, :1]) / SMOOTHNESS))
        rank = (above * examples.stands_for[:, 1:]).sum(1)
        away = np.log(weights / likeliest)
        return float(HELD * away @ away - (1 / np.log2(2 + rank)).mean())

    assert smooth_loss(top) < smooth_loss(likeliest)
    for step in 0.05 * np.vstack([np.eye(3), -np.eye(3)]):
        assert surprise(likeliest * np.exp(step)) > surprise(likeliest)
        assert smooth_loss(top * np.exp(step - step.mean())) > smooth_loss(top) - 1e-5


def test_a_step_as_long_as_may_be_leaves_weights_that_are_numbers() -> None:
    with np.errstate(all="raise"):
        assert direction(np.array([800.0, 800.0, 790.0])) == pytest.approx(
            [0.5**0.5, 0.5**0.5, 0], abs=1e-4
        )
    assert direction(np.array([0.0, -2e3])) == pytest.approx([1, 0])


def test_a_part_never_counts_against_what_it_says():
    parts = tables(800, 120, 2)
    dataset, queries = _world(_choices(parts, [1.0, -1.0]))
    weights = fit_weights(_gather(parts, dataset, queries))
    assert weights[0] > 0.7
    assert 0 < weights[1] <= 0.01
    # The other is weighed as if it stood alone, not as beside one that is turned round.
    alone = fit_weights(_gather(parts[:1], dataset, queries))
    assert weights[0] == pytest.approx(alone[0], abs=0.03)


def _everything(parts: list[Table], dataset: Dataset, queries: Queries) -> Examples:
    """Examples whose candidates are the whole catalogue."""
    answer = dataset.events.item[queries.position].astype(np.int64)
    first = dataset.events.item[queries.position - 1].astype(np.int64)
    n = len(answer)
    others = np.broadcast_to(np.arange(parts[0].shape[1]), parts[0].shape)
    candidates = np.column_stack([answer, others])
    scores = np.stack([np.take_along_axis(standardise(p), candidates, 1) for p in parts], axis=2)
    stands_for = np.ones_like(candidates, np.float32)
    stands_for[np.arange(n), 1 + answer] = 0
    stands_for[np.arange(n), 1 + first] = 0
    return Examples(scores, stands_for, np.arange(n))


def test_a_few_candidates_speak_for_the_whole_catalogue():
    parts = tables(500, 3000, 2)
    dataset, queries = _world(_choices(parts, [2.0, 1.0]))
    whole = _everything(parts, dataset, queries)
    sampled = _gather(parts, dataset, queries)
    assert sampled.scores.shape[1] < whole.scores.shape[1] / 5
    np.testing.assert_allclose(fit_weights(sampled), fit_weights(whole), atol=0.06)
    np.testing.assert_allclose(sampled.stands_for.sum(1), whole.stands_for.sum(1), rtol=1e-4)
    # NDCG@10 needs no more than the heads of the lists.
    weights = np.array([2.0, 1.0])
    np.testing.assert_allclose(gains(sampled, weights).mean(), gains(whole, weights).mean(), 0.03)


@settings(deadline=None, max_examples=15)
@given(n_items=st.integers(2, 400), seed=st.integers(0, 100))
def test_candidates_are_distinct_unseen_and_make_up_the_catalogue(n_items, seed):
    parts = tables(7, n_items, 2, seed)
    dataset, queries = _world(_choices(parts, [1.0, 1.0], seed), seed)
    examples = _gather(parts, dataset, queries, batch=3, seed=seed)
    assert (examples.stands_for[:, 0] == 1).all()
    assert (examples.stands_for >= 0).all()
    sampled_any = n_items > 200
    total = examples.stands_for.sum(1)
    # Below 100 items the parts' own lists hold everything that has not been seen.
    assert sampled_any or n_items > 100 or (total == n_items - 1).all()
    assert (total <= n_items - 1 + 1e-3).all()


def test_weights_do_not_depend_on_the_numbers_of_the_items():
    parts = tables(800, 600, 2)
    utility = _choices(parts, [1.5, 0.7])
    dataset, queries = _world(utility)
    place = np.random.default_rng(9).permutation(600)
    order = np.argsort(place)
    events = dataset.events
    moved = Dataset(
        (Domain("d", dataset.domains[0].items[order.tolist()]),),
        dataset.user_ids,
        Events.from_columns(
            800, events.user, events.domain, place[events.item].astype(np.int32), events.time
        ),
    )
    weights = fit_weights(_gather(parts, dataset, queries))
    again = fit_weights(_gather([p[:, order] for p in parts], moved, queries))
    np.testing.assert_allclose(again, weights, atol=0.05)


def test_a_part_that_says_nothing_changes_no_other_weight():
    parts = tables(300, 200, 2)
    dataset, queries = _world(_choices(parts, [1.0, 0.4]))
    examples = _gather(parts, dataset, queries)
    silent = replace(examples, scores=np.insert(examples.scores, 1, 0, axis=2))
    found = fit_weights(silent)
    np.testing.assert_allclose(found[[0, 2]], fit_weights(examples), rtol=1e-6)
    assert found[1] == START


def test_no_question_leaves_the_weights_even():
    parts = tables(5, 40, 3)
    dataset, _ = _world(parts[0])
    examples = _gather(parts, dataset, Queries(np.zeros(0, np.int64)))
    assert len(examples.user) == 0
    assert len(set(fit_weights(examples).tolist())) == 1


def _fit(parts: list[Table], dataset: Dataset, queries: Queries) -> FittedWeights:
    return fit_blend(
        {str(k): TableScorer(p) for k, p in enumerate(parts)},
        dataset,
        queries,
        0,
        BlendConfig(),
        batch=128,
        max_history=20,
        seed=0,
    )


def test_the_gain_of_a_question_comes_from_weights_of_other_users():
    parts = tables(600, 300, 2)
    raw = [f"u{u}" for u in range(600)]
    second = user_hash(raw, "blend-fold") >= 0.5
    # Half of the people follow the first part, the other fold the second: what one fold teaches
    # is wrong for the other.
    dataset, queries = _world(np.where(second[:, None], parts[1], parts[0]))
    split = _fit(parts, dataset, queries)
    assert split.gain.mean() < 0.2
    together, queries = _world(parts[0])
    assert _fit(parts, together, queries).gain.mean() > 0.9
    # The weights themselves are fitted on everybody.
    dataset, queries = _world(np.where(second[:, None], parts[1], parts[0]))
    everybody = fit_weights(_gather(parts, dataset, queries))
    assert list(split.weights.values()) == everybody.tolist()


def test_gain_is_ndcg_and_ties_count_against_the_answer():
    scores = np.array([[[0.5], [0.9], [0.1]], [[0.5], [0.5], [0.1]], [[0.9], [0.5], [0.1]]])
    examples = Examples(scores.astype(np.float32), np.ones((3, 3), np.float32), np.arange(3))
    expected = [1 / np.log2(3), 1 / np.log2(3), 1.0]
    np.testing.assert_allclose(gains(examples, np.ones(1)), expected)
    np.testing.assert_allclose(gains(examples, np.ones(1), cutoff=1), [0, 0, 1])


class PointsBack:
    """Scores what the history holds."""

    name = "back"

    def score(self, requests, domain, items=None):
        total = np.zeros((len(requests), 300), np.float32)
        own = requests.only(domain)
        total[own.rows, own.item] = 1.0
        return Scores(pick(total, items))


def test_where_seen_items_are_offered_parts_are_weighed_and_judged_with_them():
    """A part that points at what people had already is worth nothing there."""
    (table,) = tables(600, 300, 1)
    dataset, queries = _world(table)
    parts = {"back": PointsBack(), "table": TableScorer(table)}
    how = {"batch": 128, "max_history": 20, "seed": 0}
    fitted = fit_blend(parts, dataset, queries, 0, BlendConfig(), **how, exclude_seen=False)
    blend = Blend(parts, {0: fitted.weights})
    config = EvaluationConfig(cutoffs=[10], exclude_seen=False)
    asked = per_query(rank(blend, dataset, queries, 0, config=config), [10])["ndcg@10"]
    assert fitted.gain.mean() == pytest.approx(asked.mean(), abs=0.01)
    assert fitted.weights["table"] > 10 * fitted.weights["back"]
    usual = fit_blend(parts, dataset, queries, 0, BlendConfig(), **how)
    assert usual.weights["back"] > 10 * fitted.weights["back"]
