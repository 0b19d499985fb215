"""A model over a larger snapshot says of old items what it said before, and knows new ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from continual_world import BOOKS, GEAR, base, growth, scores, settings, until

from isthmus.baselines.popular import DAY, RecentPopular
from isthmus.data.appending import COLUMNS, append_events
from isthmus.data.growth import Growth
from isthmus.errors import DataError
from isthmus.recommender import Recommender
from isthmus.scoring import Request, Requests
from word_encoder import WordEncoder


def event(item_id: str, *, user_id: str = "u00001", domain: str = "gear") -> pl.DataFrame:
    row = (user_id, domain, item_id, 1.8e9, "event", None, 1.0)
    return pl.DataFrame([row], schema=COLUMNS, orient="row")


def with_text(grown: Growth, text: str) -> Growth:
    """The last item of gear gets a text, as a catalogue would give it one."""
    domains = list(grown.dataset.domains)
    items = domains[GEAR].items
    last = pl.int_range(pl.len()) == items.height - 1
    text_or_own = pl.when(last).then(pl.lit(text)).otherwise(pl.col("text")).alias("text")
    domains[GEAR] = replace(domains[GEAR], items=items.with_columns(text_or_own))
    return replace(grown, dataset=replace(grown.dataset, domains=tuple(domains)))


def test_new_events_alone_leave_every_weight_and_are_history() -> None:
    grown = base().grown(growth(0.6, 0.8))
    assert grown.system.transferred.neural is base().system.transferred.neural
    assert grown.system.transferred.blend.weights == base().system.transferred.blend.weights
    assert len(grown.dataset.events) > len(base().dataset.events)
    learnt = grown.split.in_train
    assert learnt.sum() == base().split.in_train.sum()


def test_what_is_popular_is_counted_on_though_nothing_is_learnt() -> None:
    told = growth(0.6, 0.8)
    grown = base().grown(told)
    events = told.dataset.events
    late = float(events.time.max()) + DAY
    asked = Requests.of([Request([], [], query_time=late, user=-1)])
    anew = RecentPopular.fit(told.dataset, events).score(asked, GEAR).total
    for side in (grown.system.transferred, grown.system.alone[GEAR]):
        assert side.blend.parts["recent-popular"] is side.parts["recent-popular"]
    counted, before = (
        system.transferred.parts["recent-popular"].score(asked, GEAR).total
        for system in (grown.system, base().system)
    )
    np.testing.assert_array_equal(counted, anew)
    assert not np.array_equal(before, anew)


@pytest.mark.parametrize("text", ["gleaming compass for sailing", None])
def test_old_items_keep_their_scores_and_a_new_one_is_offered(text: str | None) -> None:
    larger = append_events(base().dataset, event("brand-new"))
    if text:
        larger = with_text(larger, text)
    grown = base().grown(larger, encoder=WordEncoder())
    n_old = base().dataset.domains[GEAR].n_items
    asked = Requests.of(
        [Request([(BOOKS, 3), (GEAR, 5)], [1.6e9, 1.61e9], query_time=1.62e9, user=-1)]
    )
    for name, part in base().system.transferred.parts.items():
        after = grown.system.transferred.parts[name].score(asked, GEAR).total
        assert after.shape == (1, n_old + 1)
        if name == "text":
            continue  # its whitening is of the whole catalogue
        np.testing.assert_array_equal(after[:, :n_old], part.score(asked, GEAR).total)
        books = grown.system.transferred.parts[name].score(asked, BOOKS).total
        np.testing.assert_array_equal(books, part.score(asked, BOOKS).total)
    neural = grown.system.transferred.neural.score(asked, GEAR).total
    assert np.isfinite(neural).all()
    assert grown.system.features[GEAR].present[-1] == (text is not None)


def test_a_new_item_is_known_by_its_text_as_an_old_one_with_that_text_is() -> None:
    texts = base().dataset.domains[GEAR].items["text"]
    row = next(i for i, text in enumerate(texts) if text)
    larger = with_text(append_events(base().dataset, event("twin")), texts[row])
    grown = base().grown(larger, encoder=WordEncoder())
    twin, old = grown.system.features[GEAR].vectors[[-1, row]]
    np.testing.assert_allclose(twin, old, atol=1e-5)
    apart = grown.system.own_features[GEAR].vectors[[-1, row]]
    np.testing.assert_allclose(*apart, atol=1e-5)


def test_growing_twice_is_growing_once() -> None:
    one = with_text(append_events(base().dataset, event("n1")), "a sturdy boat")
    first = base().grown(one, encoder=WordEncoder())
    two = with_text(append_events(one.dataset, event("n2")), "a helmet for skiing")
    twice = first.grown(two, encoder=WordEncoder())
    both = append_events(base().dataset, pl.concat([event("n1"), event("n2")]))
    once = base().grown(replace(both, dataset=two.dataset), encoder=WordEncoder())
    # Texts read in two batches may differ from one in the last digit.
    np.testing.assert_allclose(scores(twice, GEAR), scores(once, GEAR), atol=1e-6)


def test_what_grew_is_saved_and_loaded(tmp_path) -> None:
    larger = with_text(append_events(base().dataset, event("n1")), "a sturdy boat")
    grown = base().grown(larger, encoder=WordEncoder())
    grown.save(tmp_path / "m")
    again = Recommender.load(tmp_path / "m")
    np.testing.assert_array_equal(scores(again, GEAR), scores(grown, GEAR))
    assert again.progress == grown.progress


def test_a_snapshot_of_another_model_is_refused() -> None:
    other = until(0.6)
    fewer = replace(other, domains=other.domains[:1])
    with pytest.raises(DataError, match="the larger snapshot holds books, and the model's own"):
        base().grown(Growth(fewer, np.arange(0), np.arange(0)))
    turned = replace(other, user_ids=other.user_ids.reverse())
    n = len(other.events)
    with pytest.raises(DataError, match="people are not numbered"):
        base().grown(Growth(turned, np.arange(n), np.empty(0, np.int64)))


def test_the_configured_encoder_is_not_loaded_where_no_new_item_has_a_text() -> None:
    settings()  # the language model of these settings would take seconds to load
    larger = append_events(base().dataset, event("silent"))
    assert not base().grown(larger).system.features[GEAR].present[-1]
