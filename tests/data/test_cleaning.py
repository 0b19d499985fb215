import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings

from isthmus.config import CleaningConfig
from isthmus.data.cleaning import CleaningReport, Origin, clean_events, clean_items, text_ids
from isthmus.data.kcore import k_core
from isthmus.data.texts import clean_texts
from isthmus.data.timestamps import to_seconds
from isthmus.errors import DataError

ORIGIN = Origin("events.csv", "food", {"time": "when", "rating": "stars"})
DROP = CleaningConfig(bad_rows="drop")
NOON = 1_400_000_000.0


def events(**columns) -> pl.DataFrame:
    n = len(next(iter(columns.values()), [0]))
    ids = {"user_id": [f"u{i}" for i in range(n)], "item_id": [f"i{i}" for i in range(n)]}
    return pl.DataFrame(ids | columns, strict=False)


def clean(frame: pl.DataFrame, config: CleaningConfig = DROP, **more):
    report = CleaningReport()
    return clean_events(frame, ORIGIN, config, report, **more), report


def test_ids_become_text_without_losing_or_gaining_anything():
    report = CleaningReport()
    cases = [
        (pl.Series([1, 2]), ["1", "2"]),
        (pl.Series([1.0, None, 2.0]), ["1", None, "2"]),
        (pl.Series([float("nan"), 7.0]), [None, "7"]),
        (pl.Series(["007", " b ", ""]), ["007", "b", None]),
        (pl.Series(["1.0", "22.0"]), ["1", "22"]),
        (pl.Series(["1.0", "v2.0"]), ["1.0", "v2.0"]),
        (pl.Series(["x"], dtype=pl.Categorical), ["x"]),
    ]
    for column, wanted in cases:
        assert text_ids(column, ORIGIN, "user_id", report).to_list() == wanted
    with pytest.raises(DataError, match="ids must be"):
        text_ids(pl.Series([[1, 2]]), ORIGIN, "user_id", report)


@pytest.mark.parametrize(
    "value",
    [
        "1400000000",
        "1400000000000",
        "1400000000000000",
        "1400000000000000000",
        "2014-05-13T16:53:20Z",
        "2014-05-13 16:53:20",
        "2014-05-13T16:53:20.000",
        "2014-05-13T18:53:20+02:00",
        "2014/05/13 16:53:20",
    ],
)
def test_a_moment_is_read_in_every_form(value):
    assert to_seconds(pl.Series([value])).seconds.to_list() == [NOON]


def test_dates_and_typed_columns_are_read():
    day = pl.Series(["2014-05-13"]).str.to_date()
    midnight = NOON - NOON % 86400
    columns = [day, day.cast(pl.Datetime("ms")), pl.Series([20140513]), pl.Series(["2014-05-13"])]
    columns.append(day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    for column in columns:
        assert to_seconds(column).seconds.to_list() == [midnight]
    zoned = day.cast(pl.Datetime("us")).dt.replace_time_zone("Asia/Tokyo")
    assert to_seconds(zoned).seconds.to_list() == [midnight - 9 * 3600]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(631_152_000, 4_000_000_000),
            st.sampled_from(["s", "ms", "us", "iso", "bad", "none"]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_mixed_moments_are_each_read_by_themselves(rows):
    def written(second: int, form: str) -> str | None:
        match form:
            case "none":
                return None
            case "bad":
                return "soon"
            case "iso":
                return str(np.datetime64(second, "s"))
            case _:
                return str(second * {"s": 1, "ms": 1000, "us": 10**6}[form])

    moments = to_seconds(pl.Series([written(*row) for row in rows], dtype=pl.String))
    wanted = [None if form in ("bad", "none") else float(second) for second, form in rows]
    assert moments.seconds.to_list() == wanted
    assert sum(moments.formats.values()) == sum(second is not None for second in wanted)


def test_unreadable_moments_are_null():
    column = pl.Series(["soon", "-5", "nan", "", None, "2014-13-45"])
    assert to_seconds(column).seconds.null_count() == 6
    assert to_seconds(pl.Series([-1.0, float("inf"), float("nan")])).seconds.null_count() == 3


def test_bad_rows_are_counted_once_each_and_the_rest_is_kept():
    frame = events(
        user_id=["a", None, " ", "d", "e", "f"],
        time=["1400000000", "soon", "1", "x", "1400000001", "1400000002"],
        rating=["5", "1", "1", "1", "-1", "NaN"],
    )
    kept, report = clean(frame)
    assert kept["user_id"].to_list() == ["a"]
    assert [(e.rows, e.action) for e in report.entries if e.action == "dropped"] == [
        (2, "dropped"),
        (1, "dropped"),
        (1, "dropped"),
        (1, "dropped"),
    ]
    assert report.total("dropped") == 5
    assert report.total("dropped", "food") == 5
    assert report.total("dropped", "kitchen") == 0


def test_ratings_and_their_scale():
    kept, report = clean(events(rating=["1", "", "4.5", None]))
    assert kept["rating"].to_list() == [1.0, None, 4.5, None]
    assert report.rating_scales == {"food": (1.0, 4.5)}
    assert "2 rows, without a rating" in report.lines()[0]
    wide = CleaningConfig(bad_rows="drop", rating_scale=(-10, 10))
    kept, report = clean(events(rating=[-5.0, 11.0]), wide)
    assert kept["rating"].to_list() == [-5.0]
    assert report.rating_scales == {"food": (-10, 10)}


@pytest.mark.parametrize("column", ["rating", "order", "weight"])
@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["2.5", " 1", "4 "])])
def test_numbers_as_texts_and_categories_are_read(column, kind):
    frame = events(user_id=["u", "v", "w"], item_id=["a", "b", "c"])
    frame = frame.with_columns(pl.Series(column, [" 1", "2.5", "4 "], dtype=kind))
    found, _ = clean(frame, CleaningConfig())
    assert found[column].to_list() == [1, 2.5, 4]


def test_a_weight_that_is_blank_counts_one_and_an_order_that_is_blank_is_none():
    frame = events(user_id=["u", "v"], item_id=["a", "b"])
    found, _ = clean(frame.with_columns(weight=pl.Series([" ", "2"])), CleaningConfig())
    assert found["weight"].to_list() == [1, 2]
    with pytest.raises(DataError, match="1 of 2 rows have no number for the order"):
        clean(frame.with_columns(order=pl.Series([" ", "2"])), CleaningConfig())


def test_least_rating_and_kinds():
    config = CleaningConfig(min_rating=3)
    kept, report = clean(events(rating=[2, 3, None]), config)
    assert kept["item_id"].to_list() == ["i1", "i2"]
    assert "cleaning.min_rating" in report.lines()[0]
    kept, report = clean(events(kind=["buy", "view", None]), keep_kinds=["buy"])
    assert kept["item_id"].to_list() == ["i0"]
    assert report.total("dropped") == 2


def test_the_report_reads_well_and_is_plain():
    _, report = clean(events(time=["1400000000", "2014-05-13"]))
    line = report.lines()[0]
    assert line.startswith("food: events.csv: 2 rows changed, times of mixed form in 'when'")
    assert "1 as Unix seconds" in line
    assert "1 as ISO dates" in line
    assert report.to_dict()["entries"][0]["rows"] == 2


def test_texts_lose_markup_and_keep_every_script():
    texts = [
        "<b>Cats</b> &amp; dogs<br/>here",
        "&lt;i&gt;escaped&lt;/i&gt; &amp;quot;twice&amp;quot;",
        "5 < 6 and <3 stays, AT&T; too",
        "<script>alert('x')</script><!-- gone -->seen",
        "  many \t\n spaces\u00a0here ",
        "👩‍👩‍👧 中文标题 עברית العربية می‌خواهم",
        "<p> </p>",
        None,
    ]
    cleaned = clean_texts(pl.Series(texts), 2000)
    assert cleaned.values.to_list() == [
        "Cats & dogs here",
        'escaped "twice"',
        "5 < 6 and <3 stays, AT&T; too",
        "seen",
        "many spaces here",
        "👩‍👩‍👧 中文标题 עברית العربية می‌خواهم",
        None,
        None,
    ]
    assert cleaned.markup == 4


def test_long_texts_are_cut_by_characters_and_counted():
    cleaned = clean_texts(pl.Series(["猫" * 100_000, "short"]), 2000)
    assert cleaned.values.to_list() == ["猫" * 2000, "short"]
    assert cleaned.cut == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=60)), min_size=1, max_size=5))
def test_cleaning_texts_twice_changes_nothing_more(texts):
    texts = [text and text.replace("&", "+").replace("<", "(") for text in texts]
    once = clean_texts(pl.Series(texts, dtype=pl.String), 40).values
    assert clean_texts(once, 40).values.to_list() == once.to_list()


def items(frame: pl.DataFrame, config: CleaningConfig = DROP, **more):
    report = CleaningReport()
    return clean_items(frame, Origin("items.csv", "food"), config, report, **more), report


def test_item_text_joins_what_is_there():
    frame = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["Tea", None, None],
            "category": ["Drinks > Hot", "Bread", None],
            "price": [1.5, None, 2.0],
        }
    )
    clean, _ = items(frame)
    assert clean.columns == ["item_id", "text", "title", "category", "price", "__row"]
    assert clean["text"].to_list() == ["Tea | Drinks > Hot", "Bread", None]
    clean, _ = items(frame, text_columns=["category", "title"])
    assert clean["text"].to_list() == ["Drinks > Hot | Tea", "Bread", None]
    clean, _ = items(pl.DataFrame({"item_id": [1], "category": [["a", "b"]]}))
    assert clean["text"].to_list() == ["a > b"]


def test_equal_item_rows_collapse_and_others_follow_the_config():
    frame = pl.DataFrame({"item_id": ["a", "a", "b", "b"], "title": ["x", "x", "y", "z"]})
    clean, report = items(frame, CleaningConfig(item_conflicts="last"))
    assert clean.select("item_id", "title").rows() == [("a", "x"), ("b", "z")]
    assert [entry.rows for entry in report.entries] == [1, 1]
    clean, _ = items(frame, CleaningConfig(item_conflicts="first"))
    assert clean["title"].to_list() == ["x", "y"]
    with pytest.raises(DataError, match="'b' in rows 3 and 4"):
        items(frame, CleaningConfig())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(0, 4),
)
def test_k_core_is_the_largest_set_where_all_have_enough(pairs, min_user, min_item):
    user, item = np.array(pairs).T
    keep = k_core(user, item, min_user, min_item)
    left = {i for i in range(len(pairs)) if keep[i]}
    # The textbook way: drop one offending event's user or item at a time.
    wanted = set(range(len(pairs)))
    while True:
        bad = {
            i
            for i in wanted
            if sum(user[j] == user[i] for j in wanted) < min_user
            or sum(item[j] == item[i] for j in wanted) < min_item
        }
        if not bad:
            break
        wanted -= bad
    assert left == wanted
