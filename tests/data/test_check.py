import json
import time

import numpy as np
import polars as pl
import pytest

from isthmus.data.build import DomainFrames, PeopleFrames, dataset_from_frames
from isthmus.data.check import check_dataset
from isthmus.errors import DataError

DAY = 86_400


def domain(users: list[str], texts: list[str | None], *, time: bool = True) -> DomainFrames:
    """Each user acts on each item, an hour apart."""
    n = len(users) * len(texts)
    events = pl.DataFrame(
        {
            "user_id": np.repeat(users, len(texts)),
            "item_id": np.tile([f"i{j}" for j in range(len(texts))], len(users)),
            "time" if time else "order": 1_400_000_000 + 3600 * np.arange(n),
        }
    )
    items = {"item_id": [f"i{j}" for j in range(len(texts))], "title": texts}
    return DomainFrames(events, pl.DataFrame(items, schema_overrides={"title": pl.String}))


def check(**domains: DomainFrames):
    return check_dataset(*dataset_from_frames(domains))


def advice(**domains: DomainFrames) -> str:
    return "\n".join(check(**domains).advice)


def test_figures_of_a_domain():
    frames = domain(["u", "v"], ["red tea pot", "green tea", None, None])
    rated = frames.events.with_columns(rating=pl.lit(4.0), time=pl.lit(400 * DAY))
    report = check(shop=DomainFrames(pl.concat([rated, rated.head(1)]), frames.items))
    (shop,) = report.domains
    assert (shop.users, shop.items, shop.events) == (2, 4, 9)
    assert shop.density == pytest.approx(9 / 8)
    assert shop.events_per_user["1"] == 5
    assert shop.text_share == 0.5
    assert shop.text_words == 2.5
    assert shop.time_range == ("1971-02-05", "1971-02-05")
    assert shop.day_resolution
    assert shop.tied_share == pytest.approx(7 / 9)
    assert shop.rating_scale == (4, 4)
    assert shop.duplicates == 1
    assert shop.silent_items == 0


def test_figures_of_a_pair():
    report = check(
        a=domain(["u", "v", "w"], ["tea pot tea", "tea"]), b=domain(["v", "w"], ["tea cup"] * 3)
    )
    (pair,) = report.pairs
    assert (pair.users, pair.share) == (2, 1.0)
    assert pair.events == (4, 6)
    # a: tea 3/4, pot 1/4; b: tea 1/2, cup 1/2.
    assert pair.text_similarity == pytest.approx(np.sqrt(3 / 4 * 1 / 2))
    assert pair.shared_words == 1.0


def test_equal_texts_are_alike_in_any_script():
    texts = ["猫的故事", "חתול קטן", "the cat"]
    (pair,) = check(a=domain(["u"], texts), b=domain(["v"], texts)).pairs
    assert pair.text_similarity == pytest.approx(1)
    (pair,) = check(a=domain(["u"], ["猫的故事"] * 2), b=domain(["v"], ["故事书"] * 2)).pairs
    assert pair.text_similarity is not None
    assert pair.text_similarity > 0.5


@pytest.mark.parametrize(
    ("domains", "says"),
    [
        ({"a": domain(["u"], ["x"])}, "one domain only"),
        ({"a": domain(["u"], [None]), "b": domain(["v"], ["x"])}, "nothing can carry over"),
        ({"a": domain(["u"], ["x"]), "b": domain(["v"], ["x"])}, "by text only"),
        ({"a": domain(["u"], ["x y"]), "b": domain(["u"], ["z"])}, "use different words"),
        ({"a": domain(["u"], ["x"], time=False)}, "no times"),
        ({"a": domain(["u"], ["x"])}, "Intervals will be wide"),
        ({"a": domain(["u"], [None])}, "no item has a text"),
        ({"a": domain(["u"], ["x", None])}, "50% of items have no text"),
        ({"a": domain(["u"], ["x"] * 3)}, "draws 33% of events"),
        (
            {"a": domain(["u"], ["x"]), "b": DomainFrames(items=domain([], ["x"]).items)},
            "no events",
        ),
    ],
)
def test_advice_names_what_will_go_wrong(domains, says):
    assert says in advice(**domains)


def test_advice_on_clocks():
    frames = domain(["u"], ["tea"] * 40)

    def at(days) -> DomainFrames:
        return DomainFrames(frames.events.with_columns(time=pl.Series(days) * DAY), frames.items)

    steady = 10_000 + np.arange(40)
    assert "whole days" not in advice(a=at(steady))
    assert "since times are whole days" in advice(a=at(steady // 2))
    assert "last fifth" in advice(a=at(np.append([0], steady)[:40]))
    assert "dated 1970-01-01" in advice(a=at(np.append([0], steady)[:40]))
    assert "hardly share a clock" in advice(a=at(steady), b=at(steady + 5000))
    assert "hardly share a clock" not in advice(a=at(steady), b=at(steady + 1))


def test_dates_that_lie_ahead_are_pointed_out_and_kept():
    frames = domain(["u"], ["tea"] * 40)
    odd = pl.when(pl.int_range(pl.len()) == 5).then(4_075_000_000).otherwise(pl.col("time"))
    report = check(a=DomainFrames(frames.events.with_columns(time=odd), frames.items), b=frames)
    (line,) = [line for line in report.advice if "a day from now" in line]
    assert line.startswith("a: 1 event is dated more than a day from now, the latest 2099-02-17.")
    assert "correct these dates" in line
    assert any("1 row, dated more than a day" in line for line in report.cleaning.lines())
    assert [figures.events for figures in report.domains] == [40, 40]
    soon = pl.lit(time.time() + DAY / 2)
    near = DomainFrames(frames.events.with_columns(time=soon), frames.items)
    assert "a day from now" not in advice(a=near)


def test_many_facts_of_a_kind_are_said_together():
    many = {f"d{i}": domain(["u"], ["x"], time=False) for i in range(9)}
    (line,) = [line for line in check(**many).advice if "no times" in line]
    assert "5 more of the kind" in line


def test_losses_in_cleaning_are_pointed_out():
    events = domain(["u", "v"], ["x"]).events.with_columns(kind=pl.Series(["buy", "view"]))
    report = check(a=DomainFrames(events, keep_kinds=["buy"]))
    assert any("dropped 50% of 2 events" in line for line in report.advice)


def test_the_report_is_written_and_reads_well(tmp_path):
    report = check(a=domain(["u"], ["tea | pot"]), b=domain(["u"], ["cup"]))
    report.write(tmp_path / "new")
    found = json.loads((tmp_path / "new" / "data-report.json").read_text("utf-8"))
    assert found == json.loads(json.dumps(report.to_dict()))
    assert found["pairs"][0]["users"] == 1
    page = (tmp_path / "new" / "data-report.md").read_text("utf-8")
    assert "| a | 1 | 1 | 1 |" in page
    assert all(line in page for line in report.advice)
    assert any("1 users in common" in line for line in report.sentences())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        report.write(tmp_path / "file")


def test_people_apart_have_nothing_in_common():
    frames = {"a": domain(["u"], ["x"]), "b": domain(["u"], ["x"])}
    apart = dataset_from_frames(frames, people=PeopleFrames(linked=False))
    assert check_dataset(*apart).pairs[0].users == 0
    assert check_dataset(*dataset_from_frames(frames)).pairs[0].users == 1
