"""One domain, no behaviour, no texts, nobody in common: it fits, serves and says how it is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl
import pytest
from recommender_world import quick_config

from isthmus.config import Config
from isthmus.data.build import DomainFrames, dataset_from_frames
from isthmus.data.splits import global_cut
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.errors import DataError, RequestError
from isthmus.recommender import Recommender
from word_encoder import WordEncoder


@cache
def _frames() -> dict[str, DomainFrames]:
    domains = (DomainSpec(name="books", n_items=40), DomainSpec(name="gear", n_items=36))
    world = generate_world(WorldConfig(n_users=80, n_themes=4, domains=domains))
    return dict(world.frames)


def _fit(frames: dict[str, DomainFrames], config: Config | None = None) -> Recommender:
    dataset, _ = dataset_from_frames(frames)
    config = config or quick_config(training={"epochs": 1, "batch_events": 512, "negatives": 64})
    return Recommender.fit(dataset, config, encoder=WordEncoder())


def _both(recommender: Recommender, domain: str) -> list[str]:
    """Basis sentences for the first user and a stranger; both get three items."""
    user = recommender.dataset.user_ids[0]
    answers = recommender.recommend(domain, users=[user, "nobody"], k=3)
    assert len(answers) == 6
    assert answers["score"].is_finite().all()
    return answers["basis"].unique(maintain_order=True).to_list()


def test_one_domain_has_nothing_to_transfer(tmp_path: Path) -> None:
    recommender = _fit({"books": _frames()["books"]})
    assert "nothing to transfer" in recommender.gates["books"].reason
    known, stranger = _both(recommender, "books")
    assert known == "own history in books"
    assert stranger.startswith("unknown user, no history")
    assert list(recommender.evaluate()["books"]) == ["gated", "target-only"]
    assert not recommender.profile(recommender.dataset.user_ids[0]).suggestions
    recommender.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert loaded.system.alone[0] is loaded.system.transferred
    assert _both(loaded, "books") == _both(recommender, "books")


def test_a_catalogue_without_events_is_served_from_the_other_domain(tmp_path: Path) -> None:
    recommender = _fit(
        {"books": _frames()["books"], "gear": DomainFrames(None, _frames()["gear"].items)}
    )
    assert "no behaviour to validate on" in recommender.gates["gear"].reason
    assert _both(recommender, "gear") == [
        "history in books only: new to gear",
        "unknown user, no history: nothing to rank by, in any order",
    ]
    assert list(recommender.evaluate()) == ["books"]
    with pytest.raises(DataError, match="no question"):
        recommender.evaluate(domains=["gear"])
    recommender.save(tmp_path / "model")
    assert _both(Recommender.load(tmp_path / "model"), "gear") == _both(recommender, "gear")


def test_a_domain_of_ids_without_texts() -> None:
    recommender = _fit(
        {"books": _frames()["books"], "gear": DomainFrames(_frames()["gear"].events, None)}
    )
    assert not recommender.raw[1].present.any()
    widths = {feature.dim for feature in recommender.system.features}
    assert len(widths) == 1
    _both(recommender, "gear")
    user = recommender.dataset.user_ids[0]
    profile = recommender.profile(user)
    assert profile.domains
    item = recommender.recommend("gear", users=["nobody"], k=1)["item_id"][0]
    similar = recommender.similar("gear", item, k=3)
    assert similar["parts"].struct.field("text").to_list() == [0, 0, 0]


def test_no_texts_at_all() -> None:
    recommender = _fit({n: DomainFrames(f.events, None) for n, f in _frames().items()})
    _both(recommender, "books")
    answers = recommender.recommend("gear", users=recommender.dataset.user_ids[:30].to_list())
    assert not answers["why"].str.contains("text|reads").any()


def test_domains_without_anybody_in_common() -> None:
    gear = _frames()["gear"]
    assert gear.events is not None
    apart = gear.events.with_columns(user_id="g-" + pl.col("user_id"))
    recommender = _fit({"books": _frames()["books"], "gear": DomainFrames(apart, gear.items)})
    assert any("in common" in note for note in recommender.dataset.notes)
    users = [u for u in recommender.dataset.user_ids if u.startswith("g-")]
    answers = recommender.recommend("gear", users=users, k=2)
    assert set(answers["basis"]) <= {"own history in gear"}


def test_a_user_with_one_event() -> None:
    frames = dict(_frames())
    books = frames["books"]
    assert books.events is not None
    last = books.events["time"].max()
    one = books.events.head(1).with_columns(user_id=pl.lit("once"), time=pl.lit(last, pl.Int64))
    frames["books"] = DomainFrames(pl.concat([books.events, one]), books.items)
    recommender = _fit(frames)
    answers = recommender.recommend("books", users=["once"], k=3)
    assert one["item_id"][0] not in set(answers["item_id"])
    assert "books" in answers["basis"][0]
    assert recommender.profile("once").n_events == 1


def test_a_domain_that_is_not_learnt_is_served_by_the_transferred_side() -> None:
    config = quick_config(training={"epochs": 1, "domain_weights": {"books": 0.0}})
    recommender = _fit(dict(_frames()), config)
    assert recommender.gates["books"].weight == 1
    assert "is not learnt" in recommender.gates["books"].reason
    _both(recommender, "books")


def test_one_target_alone_is_gated_and_an_unknown_one_refused() -> None:
    config = quick_config(training={"epochs": 1}, target="gear")
    recommender = _fit(dict(_frames()), config)
    assert list(recommender.gates) == ["gear"]
    assert set(recommender.evaluate()["books"]) == {"gated", "transferred"}
    dataset = recommender.dataset
    with pytest.raises(RequestError, match="Did you mean 'gear'"):
        Recommender.fit(dataset, config, targets=["gears"], encoder=WordEncoder())


def test_the_split_is_the_configured_one_or_the_one_given() -> None:
    dataset, _ = dataset_from_frames(dict(_frames()))
    config = quick_config(training={"epochs": 1}, split={"quantiles": (0.5, 0.75)})
    recommender = Recommender.fit(dataset, config, encoder=WordEncoder())
    assert abs(recommender.split.in_train.mean() - 0.5) < 0.02
    own = global_cut(dataset, quantiles=(0.6, 0.8))
    assert Recommender.fit(dataset, config, split=own, encoder=WordEncoder()).split is own


def test_fewer_parts() -> None:
    config = quick_config(training={"epochs": 1}, blend={"parts": ["text", "co-occurrence"]})
    recommender = _fit(dict(_frames()), config)
    answers = recommender.recommend("gear", users=["nobody"], k=1)
    assert answers["basis"][0] == "unknown user, no history: nothing to rank by, in any order"
    assert set(recommender.similar("gear", "g00001")["parts"].struct.fields) == {
        "text",
        "co-occurrence",
    }


@pytest.mark.parametrize("parts", [["co-occurrence", "recent-popular"], ["recent-popular"]])
def test_a_blend_without_parts_that_read_texts(parts: list[str]) -> None:
    training = {"epochs": 1, "batch_events": 512, "negatives": 64}
    shot = {"strategy": "zero-shot"}
    config = quick_config(training=training, blend={"parts": parts}, transfer=shot, target="gear")
    recommender = _fit(_frames(), config)
    _both(recommender, "gear")
    if "co-occurrence" not in parts:
        item = recommender.dataset.domains[0].items["item_id"][0]
        with pytest.raises(RequestError, match="tells which items are alike"):
            recommender.similar("books", item)
