"""People new to the target get part weights of their own, from hidden histories."""

import numpy as np
import polars as pl
import pytest

from isthmus.blend import Blend, fit_blend
from isthmus.config import BlendConfig
from isthmus.data.dataset import Dataset, Domain, Events
from isthmus.data.splits import Queries
from isthmus.scoring import Request, Requests, Scores, pick

N_ITEMS = 40


class KnowsTheHistory:
    """Right about people of whom it sees something in the target, and silent about the rest."""

    name = "history"

    def score(self, requests, domain, items=None):
        total = np.zeros((len(requests), N_ITEMS), np.float32)
        own = requests.only(domain)
        total[own.rows, (own.item + 1) % N_ITEMS] = 1.0
        return Scores(pick(total, items))


class KnowsElsewhere:
    """Right about people by what they did elsewhere; never about those with a target history."""

    name = "elsewhere"

    def score(self, requests, domain, items=None):
        total = np.zeros((len(requests), N_ITEMS), np.float32)
        other = requests.keep(requests.domain != domain)
        known = np.bincount(requests.only(domain).rows, minlength=len(requests)) > 0
        right = (other.item + 1) % N_ITEMS
        wrong = (other.item + 7) % N_ITEMS
        total[other.rows, np.where(known[other.rows], wrong, right)] = 1.0
        return Scores(pick(total, items))


class Misleading(KnowsTheHistory):
    """Right about people with a target history; sure of something else about the rest."""

    def score(self, requests, domain, items=None):
        total = super().score(requests, domain).total
        other = requests.keep(requests.domain != domain)
        new = np.bincount(requests.only(domain).rows, minlength=len(requests)) == 0
        total[other.rows[new[other.rows]], (other.item[new[other.rows]] + 9) % N_ITEMS] = 1.0
        return Scores(pick(total, items))


def _world(n_users: int) -> tuple[Dataset, Queries]:
    """Item a elsewhere, then a in the target, then the answer a + 1 in the target."""
    liked = np.random.default_rng(0).integers(0, N_ITEMS, n_users)
    domain = np.tile(np.array([0, 1, 1], np.int16), n_users)
    item = np.column_stack([liked, liked, (liked + 1) % N_ITEMS]).ravel().astype(np.int32)
    events = Events.from_columns(
        n_users, np.repeat(np.arange(n_users), 3), domain, item, np.arange(3.0 * n_users)
    )
    ids = pl.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)]})
    users = pl.Series("user_id", [f"u{u}" for u in range(n_users)])
    dataset = Dataset((Domain("elsewhere", ids), Domain("target", ids)), users, events)
    return dataset, Queries(np.arange(2, 3 * n_users, 3))


PARTS = {"history": KnowsTheHistory(), "elsewhere": KnowsElsewhere()}


def _fit(n_users: int):
    dataset, queries = _world(n_users)
    fitted = fit_blend(PARTS, dataset, queries, 1, BlendConfig(), batch=64, max_history=10, seed=0)
    return dataset, queries, fitted


def test_hidden_histories_weigh_the_parts_that_can_still_speak():
    _, _, fitted = _fit(300)
    assert fitted.weights["history"] > 10 * fitted.weights["elsewhere"]
    assert fitted.newcomer_weights is not None
    assert fitted.newcomer_weights["elsewhere"] > 10 * fitted.weights["elsewhere"]
    # A part that says nothing of newcomers cannot be weighed on them.
    assert fitted.newcomer_weights["history"] == fitted.weights["history"]
    assert fitted.newcomer_gain.mean() > 0.9


def test_each_request_is_weighed_by_what_it_carries():
    dataset, queries, fitted = _fit(300)
    blend = Blend(
        PARTS, {1: fitted.weights}, newcomers={1: fitted.newcomer_weights or fitted.weights}
    )
    whole = Requests.at(dataset, queries.position[:50])
    new = whole.as_newcomers(1)
    answer = dataset.events.item[queries.position[:50]]
    for requests in (whole, new):
        assert (blend.score(requests, 1).total.argmax(1) == answer).all()
    mixed = Requests.of(
        [Request([(0, 3), (1, 3)]), Request([(0, 5)]), Request([(1, 9)]), Request()]
    )
    rows = blend.row_weights(mixed, 1)["elsewhere"]
    usual, special = fitted.weights["elsewhere"], blend.newcomers[1]["elsewhere"]
    assert rows == pytest.approx([usual, special, usual, special])


def test_people_new_as_they_are_are_judged_by_the_weights_that_serve_them():
    dataset, queries = _world(300)
    late = np.arange(300) < 40
    events = dataset.events
    # Their first event in the target goes, so that the answer is their first one there.
    gone = np.zeros(len(events), bool)
    gone[queries.position[late] - 1] = True
    kept = events.keep(~gone)
    shifted = queries.position - np.cumsum(gone)[queries.position]
    dataset = Dataset(dataset.domains, dataset.user_ids, kept)
    how = {"batch": 64, "max_history": 10, "seed": 0}
    # One part that knows newcomers and one, better for all others, that misleads about newcomers.
    parts = {"history": Misleading(), "elsewhere": KnowsElsewhere()}
    fitted = fit_blend(parts, dataset, Queries(shifted), 1, BlendConfig(), **how)
    assert np.array_equal(fitted.own == 0, late)
    blend = Blend(parts, {1: fitted.weights}, newcomers={1: fitted.newcomer_weights or {}})
    served = blend.score(Requests.at(dataset, shifted[late]), 1).total.argmax(1)
    assert np.mean(served == kept.item[shifted[late]]) > 0.9
    assert fitted.gain[late].mean() > 0.9


def test_too_few_newcomers_get_the_usual_weights():
    _, _, fitted = _fit(60)
    assert fitted.newcomer_weights is None
    blend = Blend(PARTS, {1: fitted.weights})
    alone = blend.row_weights(Requests.of([Request([(0, 5)])]), 1)
    assert alone["history"] == pytest.approx([fitted.weights["history"]])


def test_weights_that_are_given_are_judged_and_not_replaced():
    dataset, queries = _world(300)
    given = {"history": 0.3, "elsewhere": 0.2}
    fitted = fit_blend(
        PARTS, dataset, queries, 1, BlendConfig(), batch=64, max_history=10, seed=0, given=given
    )
    assert fitted.weights == given
    assert fitted.newcomer_weights is None
    assert len(fitted.newcomer_gain) == 300
