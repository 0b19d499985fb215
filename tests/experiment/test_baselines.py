from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from isthmus.baselines import fading
from isthmus.config import Config
from isthmus.data.build import dataset_from_frames
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.frames import DomainFrames
from isthmus.data.splits import Queries, Split, global_cut, leave_one_out
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.errors import ConfigError
from isthmus.experiment.baselines import BASELINES, FADES_TO, Ingredients, chosen
from isthmus.experiment.compare import compare
from isthmus.experiment.curve import CurvePlan
from isthmus.scoring import Requests

NEIGHBOURS = ["emcdr", "cmf", "bitgcf", "unisrec"]
CONFIG = Config.model_validate(
    {
        "model": {"dim": 8, "layers": 1, "max_length": 10},
        "training": {"epochs": 2, "negatives": 16, "device": "cpu", "threads": 1},
        "split": {"kind": "leave-one-out"},
    }
)


@pytest.fixture(scope="module")
def shops() -> Dataset:
    domains = tuple(
        DomainSpec(name=name, n_items=30, events_per_user=4, starts_after_days=0)
        for name in ("books", "films", "gear")
    )
    config = WorldConfig(n_users=80, n_themes=3, domains=domains, seed=3)
    return generate_world(config).dataset


def without_texts(dataset: Dataset) -> Dataset:
    frames = {
        domain.name: DomainFrames(
            events=_events(dataset, index), items=domain.items.select("item_id")
        )
        for index, domain in enumerate(dataset.domains)
    }
    return dataset_from_frames(frames)[0]


def apart(dataset: Dataset) -> Dataset:
    """The same shops with nobody in common."""
    frames = {
        domain.name: DomainFrames(
            events=_events(dataset, index).with_columns(
                user_id=domain.name + "-" + pl.col("user_id")
            ),
            items=domain.items,
        )
        for index, domain in enumerate(dataset.domains)
    }
    return dataset_from_frames(frames)[0]


def _events(dataset: Dataset, domain: int) -> pl.DataFrame:
    events = dataset.events.only(domain)
    return pl.DataFrame(
        {
            "user_id": dataset.user_ids.gather(events.user),
            "item_id": dataset.domains[domain].items["item_id"].gather(events.item),
            "time": events.time,
        }
    )


def test_neighbours_compete_only_when_they_are_named() -> None:
    assert not set(NEIGHBOURS) & set(chosen(None))
    assert {"ease", "als", "sasrec"} <= set(chosen(None))
    assert list(chosen(NEIGHBOURS)) == NEIGHBOURS
    assert all(chosen(NEIGHBOURS)[name].merged for name in NEIGHBOURS)


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_each_is_fitted_for_three_domains_by_its_name(
    name: str, shops: Dataset, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    raw = [
        ItemFeatures(rng.normal(size=(d.n_items, 6)).astype(np.float32), np.ones(d.n_items, bool))
        for d in shops.domains
    ]
    split = leave_one_out(shops)
    events = split.train_events(shops)
    given = Ingredients(shops, split, events, raw, CONFIG, 2, tmp_path / f"{name}-gear")
    BASELINES[name].check(shops, events, 2)
    scorer = BASELINES[name].fit(given)
    assert scorer.name == name
    requests = Requests.of_users(shops, np.arange(5))
    cold = requests.as_newcomers(2)
    known = cold.lengths > 0
    assert scorer.score(requests, 2).total.shape == (5, 30)
    spread = scorer.score(cold, 2).total.std(1)
    assert (spread[known] > 0).all()


@pytest.mark.parametrize("name", ["recent-popular", "co-occurrence", "co-occurrence-target"])
def test_counts_go_on_after_a_cut_and_see_nothing_that_is_still_to_come(
    name: str, shops: Dataset
) -> None:
    split = global_cut(shops)
    late = shops.events.time >= split.cut_times[1]
    raw = [
        ItemFeatures(np.zeros((d.n_items, 2), np.float32), np.zeros(d.n_items, bool))
        for d in shops.domains
    ]

    asked = Requests.at(shops, split.validation.position)

    def told(dataset: Dataset, split: Split) -> NDArray[np.float32]:
        given = Ingredients(dataset, split, split.train_events(dataset), raw, CONFIG, 2, None)
        return BASELINES[name].fit(given).score(asked, 2).total

    usual = told(shops, split)
    # Without what came after the last question nothing changes; without what came before, much.
    kept = replace(shops, events=shops.events.keep(~late))
    stopping = Queries((np.cumsum(~late) - 1)[split.stopping.position])
    shorter = replace(split, in_train=split.in_train[~late], stopping=stopping)
    np.testing.assert_allclose(told(kept, shorter), usual, rtol=1e-5)
    assert not np.allclose(told(shops, replace(split, name="leave-one-out")), usual)


@pytest.mark.parametrize("name", ["co-occurrence", "co-occurrence-target"])
def test_pairs_fade_in_the_target_if_that_answers_better(
    name: str, shops: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = global_cut(shops)
    given = Ingredients(shops, split, split.train_events(shops), [], CONFIG, 2, None)
    monkeypatch.setattr(fading, "CONFIDENT", 0.0)
    assert BASELINES[name].fit(given).config.fades_to == (1.0, 1.0, FADES_TO)
    monkeypatch.setattr(fading, "CONFIDENT", 1.1)
    assert BASELINES[name].fit(given).config.fades_to == ()


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_what_they_cannot_use_is_refused_before_anything_is_fitted(
    name: str, shops: Dataset, tmp_path: Path
) -> None:
    bad = without_texts(shops) if name == "unisrec" else apart(shops)
    message = "no item of gear has one" if name == "unisrec" else "people in common"
    with pytest.raises(ConfigError, match=rf"baseline {name}: .*{message}"):
        compare(CONFIG, dataset=bad, targets=["gear"], baselines=[name], folder=tmp_path)
    alone = dataset_from_frames({"gear": DomainFrames(_events(shops, 2), shops.domains[2].items)})[
        0
    ]
    with pytest.raises(ConfigError, match=rf"baseline {name}: .*gear is the only one"):
        compare(CONFIG, dataset=alone, baselines=[name], folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_curve_asks_its_own_baselines_what_they_need(shops: Dataset) -> None:
    plan = CurvePlan(shares=(0.9,), baselines=("cmf",))
    lone = apart(shops)
    with pytest.raises(ConfigError, match="baseline cmf"):
        plan.check(lone, leave_one_out(lone), [2], Config())
    plan.check(shops, leave_one_out(shops), [2], Config())
