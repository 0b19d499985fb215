"""What was registered beside the log becomes part of the snapshot, and of the next version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from continual_world import GEAR, base
from test_learner import events

from isthmus.data.dataset import WITHDRAWN, Dataset
from isthmus.online.catalogue import Item, open_catalogue
from isthmus.online.events import Event
from isthmus.online.learner import Learner
from isthmus.online.log import open_log
from isthmus.online.registered import with_registered
from isthmus.recommender import Recommender
from isthmus.training.checkpoint import described
from word_encoder import WordEncoder

KETTLE = Item("gear", "kettle", "Steel kettle", "Kitchen > Tea", None, {"price": 18.5, "new": True})


def gear(dataset: Dataset) -> pl.DataFrame:
    return dataset.domains[GEAR].items


def row(dataset: Dataset, item_id: str) -> dict[str, object]:
    found: dict[str, object] = gear(dataset).row(
        dataset.domains[GEAR].index_of(item_id), named=True
    )
    return found


def taken(items: list[Item], dataset: Dataset | None = None) -> Dataset:
    return with_registered(
        dataset or base().dataset, items, fitted_items=tuple(map(len, base().raw))
    )


def test_a_new_item_joins_at_the_end_with_its_text_and_attributes() -> None:
    before = base().dataset
    after = taken([KETTLE])
    n = before.domains[GEAR].n_items
    assert gear(after)["item_id"].to_list() == [*gear(before)["item_id"], "kettle"]
    found = row(after, "kettle")
    assert (found["title"], found["text"]) == ("Steel kettle", "Steel kettle")
    assert (found["category"], found["price"], found["new"]) == ("Kitchen > Tea", 18.5, True)
    # Nothing of the others has changed.
    shared = gear(before).columns
    assert gear(after).head(n).select(shared).equals(gear(before))
    assert gear(after).head(n)["new"].null_count() == n
    assert after.domains[GEAR].offered.all()


def test_taking_in_the_same_again_changes_nothing() -> None:
    once = taken([KETTLE])
    again = taken([KETTLE], once)
    assert gear(again).equals(gear(once))
    assert taken([replace(KETTLE, domain="films")], once) is once


def test_a_known_item_is_described_anew_and_keeps_the_text_that_maps_rest_on() -> None:
    first = gear(base().dataset).row(0, named=True)
    told = Item("gear", first["item_id"], "Another title", "Other", "another text")
    found = row(taken([told]), first["item_id"])
    assert (found["title"], found["category"]) == ("Another title", "Other")
    assert found["text"] == first["text"]
    # One that came later has no part in the maps.
    later = taken([KETTLE])
    anew = taken([replace(KETTLE, title="Copper kettle", attributes={"price": 20})], later)
    found = row(anew, "kettle")
    assert (found["text"], found["price"], found["new"]) == ("Copper kettle", 20.0, None)


@pytest.mark.parametrize("mark", ["hidden", "deleted"])
def test_what_is_hidden_or_deleted_is_withdrawn_until_it_is_back(mark: str) -> None:
    known = gear(base().dataset)["item_id"][3]
    marks = [
        Item("gear", known, described=False, **{mark: True}),
        replace(KETTLE, **{mark: True}),
        Item("gear", "nobody-described-it", described=False, **{mark: True}),
    ]
    after = taken(marks)
    domain = after.domains[GEAR]
    assert np.flatnonzero(~domain.offered).tolist() == [3, domain.n_items - 1]
    assert row(after, known)["title"] == gear(base().dataset)["title"][3]
    back = taken([Item("gear", known, described=False), KETTLE], after)
    assert back.domains[GEAR].offered.all()


def test_values_of_another_kind_than_their_column_are_left_out() -> None:
    priced = taken([KETTLE])
    odd = replace(KETTLE, item_id="odd", attributes={"price": "cheap", "new": 3.0, "size": "L"})
    found = row(taken([odd], priced), "odd")
    assert (found["price"], found["new"], found["size"]) == (None, None, "L")
    # A name of the table's own is no attribute.
    sly = replace(KETTLE, item_id="sly", attributes={"item_id": "x", "text": "y", WITHDRAWN: True})
    found = row(taken([sly], priced), "sly")
    assert (found["item_id"], found["text"]) == ("sly", "Steel kettle")
    assert taken([sly], priced).domains[GEAR].offered.all()


def test_the_next_version_knows_what_was_registered(tmp_path: Path) -> None:
    base().save(tmp_path / "model")
    log, catalogue = open_log(tmp_path / "events.db"), open_catalogue(tmp_path / "events.db")
    texts = gear(base().dataset)["text"]
    twin = next(n for n, text in enumerate(texts) if text)
    known = gear(base().dataset)["item_id"]
    catalogue.describe([replace(KETTLE, title=texts[twin])])
    catalogue.hide("gear", known[5])
    catalogue.delete("gear", known[6])
    catalogue.hide_person("shy")
    told = events(0.6, 0.8)
    moment = told[-1].time
    told += [Event(f"k{n}", f"buyer-{n}", "gear", "kettle", moment) for n in range(3)]
    told += [Event(f"s{n}", "shy", "gear", known[n], moment) for n in range(3)]
    log.append(told)
    learner = Learner(tmp_path / "model", log, catalogue=catalogue, encoder=WordEncoder())
    step = learner.step()
    assert step.version == "v000002"
    assert step.left_out == {"of people who are hidden": 3}
    meta = described(tmp_path / "model")[-1][2]
    assert meta["log"] == {"id": log.id, "offset": log.head(), "registered": 3}
    model = Recommender.load(tmp_path / "model", version="v000002")
    assert "shy" not in model.dataset.user_index
    # Known by its text, through the maps of the others, not by its id alone.
    features = model.system.features[GEAR]
    assert features.present[-1]
    np.testing.assert_allclose(*features.vectors[[-1, twin]], atol=1e-5)
    person = model.dataset.user_ids[0]
    listed = model.recommend("gear", users=[person], k=1000, seen=True)["item_id"].to_list()
    assert "kettle" in listed
    assert not {known[5], known[6]} & set(listed)
    path = tmp_path / "lists.parquet"
    model.export("gear", path, k=1000, seen=True)
    assert not {known[5], known[6]} & set(pl.read_parquet(path)["item_id"])
    near = model.similar("gear", known[7], k=1000)["item_id"].to_list()
    assert not {known[5], known[6]} & set(near)

    # Shown again, and told another text: the version after knows that as well.
    catalogue.hide("gear", known[5], hidden=False)
    other = next(n for n, text in enumerate(texts) if text and text != texts[twin])
    catalogue.describe([replace(KETTLE, title=texts[other])])
    log.append(events(0.8, 0.9))
    step = learner.step()
    model = Recommender.load(tmp_path / "model", version=step.version)
    features = model.system.features[GEAR]
    np.testing.assert_allclose(*features.vectors[[-1, other]], atol=1e-5)
    listed = model.recommend("gear", users=[person], k=1000, seen=True)["item_id"].to_list()
    assert known[5] in listed
    assert known[6] not in listed
    catalogue.close()
    log.close()
