"""What does not count in a table, by its kind or rating, is no history of an answer either."""

from __future__ import annotations

from pathlib import Path

from serving_world import fitted, running

from isthmus.recommender import Recommender


def test_only_kinds_and_ratings_that_count_are_history(tmp_path: Path) -> None:
    usual = fitted()
    config = usual.config.override(
        *('domains.gear.keep_kinds=["buy"]', 'domains.gear.events.rating="rating"'),
        "cleaning.min_rating=3",
    )
    picky = Recommender(usual.dataset, config, usual.split, usual.raw, usual.system)
    picky.save(tmp_path / "model")
    with running(tmp_path, model=tmp_path / "model", history=3) as shop:

        def asked() -> tuple[list[str], str, bool]:
            (listing,) = shop.recommend(user_id="new", domains=["gear"], k=5)["lists"]
            items = [item["item_id"] for item in listing["items"]]
            return items, listing["basis"], listing["fallback"]

        before = asked()
        top, second, *_ = before[0]
        assert before[1:] == ("unknown user, no history: what is popular now", True)
        assert shop.report("view", "new", "gear", top, kind="view") == 200
        assert shop.report("low", "new", "gear", second, kind="buy", rating=1) == 200
        assert asked() == before
        assert shop.report("buy", "new", "gear", top, kind="buy", rating=3) == 200
        for n, item in enumerate(before[0][1:]):
            assert shop.report(f"view{n}", "new", "gear", item, kind="view") == 200
        items, basis, fallback = asked()
        assert top not in items
        assert (basis, fallback) == ("own history in gear", False)
