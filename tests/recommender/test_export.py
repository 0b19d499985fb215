"""Lists for everybody, in one file that is whole or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from recommender_world import fitted

from isthmus.errors import DataError, RequestError


def test_the_file_holds_what_recommend_gives(tmp_path: Path) -> None:
    recommender = fitted()
    path = tmp_path / "new" / "lists.parquet"
    n = recommender.export("gear", path, k=4, chunk=37)
    found = pl.read_parquet(path)
    assert found.columns == ["user_id", "rank", "item_id", "score", "basis"]
    assert n == len(found) == 4 * recommender.dataset.n_users
    users = recommender.dataset.user_ids.to_list()
    answers = recommender.recommend("gear", users=users, k=4)
    assert found["user_id"].to_list() == answers["request"].to_list()
    assert found["basis"].cast(pl.String).to_list() == answers["basis"].to_list()
    assert np.allclose(found["score"], answers["score"], atol=1e-5)
    assert (found["item_id"] == answers["item_id"]).mean() > 0.98  # but for near-equal scores
    assert list(path.parent.iterdir()) == [path]


def test_seen_items_can_be_offered(tmp_path: Path) -> None:
    recommender = fitted()
    n_items = recommender.dataset.domains[1].n_items
    n = recommender.export("gear", tmp_path / "all.parquet", k=n_items, seen=True)
    assert n == recommender.dataset.n_users * n_items


def test_a_broken_export_leaves_the_file_before_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lists.parquet"
    path.write_text("before")
    recommender = fitted()
    scorer = type(recommender.system.transferred.blend)
    usual, calls = scorer.score, []

    def failing(self: object, *args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return usual(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(scorer, "score", failing)
    with pytest.raises(KeyboardInterrupt):
        recommender.export("gear", path, chunk=16)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_or_asked_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        fitted().export("gear", tmp_path / "file" / "lists.parquet")
    with pytest.raises(RequestError, match="Did you mean 'gear'"):
        fitted().export("gears", tmp_path / "lists.parquet")
    with pytest.raises(RequestError, match="chunk is 0"):
        fitted().export("gear", tmp_path / "lists.parquet", chunk=0)
