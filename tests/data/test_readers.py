import gzip
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from isthmus.data.readers import open_table, read_table
from isthmus.errors import DataError

CSV = 'user_id,item_id,title\n001,a,"x, y"\n2,b,"line\nbreak"\n'


def write(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".zst":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(text.encode())
    else:
        path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.csv.zst"])
def test_csv_keeps_leading_zeros_and_quoted_fields(tmp_path, name):
    frame = read_table(write(tmp_path / name, CSV))
    assert frame.rows() == [("001", "a", "x, y"), ("2", "b", "line\nbreak")]
    assert set(frame.dtypes) == {pl.String}


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_json_lines(tmp_path, name):
    lines = [{"user_id": 1, "item_id": "a"}, {"user_id": 2, "item_id": "b", "v": [1.0, 2.5]}]
    frame = read_table(write(tmp_path / name, "\n".join(map(json.dumps, lines))))
    assert frame["v"].to_list() == [None, [1.0, 2.5]]
    assert frame["user_id"].to_list() == [1, 2]


def test_parquet_reads_only_what_is_asked_for(tmp_path):
    path = tmp_path / "a.parquet"
    pl.DataFrame({"u": [1, 2, 3], "i": ["a", "b", "c"]}).write_parquet(path)
    table = open_table(path)
    assert table.columns == ("u", "i")
    assert table.read(["i"], only={"u": ["2", "3"]}).rows() == [("b",), ("c",)]
    assert table.read(rows=1).height == 1


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", ",")])
def test_another_delimiter_is_recognised_and_said(tmp_path, name, delimiter):
    path = write(tmp_path / name, f"user_id{delimiter}item_id\n1{delimiter}a\n2{delimiter}b\n")
    table = open_table(path)
    assert table.read().rows() == [("1", "a"), ("2", "b")]
    assert "separated by" in table.notes[0]


def test_the_usual_delimiter_is_not_remarked_on_even_with_others_in_texts(tmp_path):
    table = open_table(write(tmp_path / "a.csv", "id,title\n1,a;b|c\n2,d;e|f\n"))
    assert table.columns == ("id", "title")
    assert table.notes == ()


def tabs(**titles: str) -> str:
    """Two thousand lines of three columns between tabs; `i5="x"` sets the title of one."""
    lines = [f"i{k}\t{titles.get(f'i{k}', f'plain {k}')}\tc" for k in range(2000)]
    return "\n".join(["item_id\ttitle\tcat", *lines, ""])


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz", "a.csv"])
@pytest.mark.parametrize(
    "titles",
    [
        {"i100": '"Great one', "i900": 'the end"'},
        {"i100": '"Great"" thing', "i900": '"Other one"'},
        {"i100": '"Great one', "i900": '6" nail'},
        {"i1500": '"Great one'},
        {"i1500": '"Quoted" word'},
    ],
)
def test_no_line_between_tabs_is_lost_to_a_quotation_mark(tmp_path, name, titles):
    table = open_table(write(tmp_path / name, tabs(**titles) + "\n\n"))
    frame = table.read().drop_nulls("title")
    assert frame.height == 2000
    assert frame["title"].to_list() == [titles.get(f"i{k}", f"plain {k}") for k in range(2000)]
    assert table.notes[-1].startswith("quotation marks do not enclose its values")


def test_values_in_quotation_marks_between_tabs_may_hold_tabs_and_line_breaks(tmp_path):
    titles = {"i7": '"one\ttwo"', "i8": '"line\nbreak"', "i9": '"a ""b"" c"'}
    table = open_table(write(tmp_path / "a.tsv", tabs(**titles)))
    assert table.read()["title"][7:10].to_list() == ["one\ttwo", "line\nbreak", 'a "b" c']
    assert table.notes == ()
    table = open_table(write(tmp_path / "b.tsv", tabs(i7='"one\ttwo\nthree"')))
    assert table.read()["title"][7] == "one\ttwo\nthree"
    assert "1 row has a value of several lines with tabs" in table.notes[0]
    assert "first row 8" in table.notes[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (tabs().replace("\t", ",").replace("plain 1500", '"Quoted" word'), "in row 1,501 does not"),
        (tabs().replace("\t", ",").replace("plain 1500", '"Great one'), "in row 1,501 does not"),
        (tabs().replace("\t", ",").replace("plain 1500", "a,b"), "row 1,501 has 4 values, and"),
        (tabs(i1500='"Quoted" word', i3="a\tb"), "row 4 has 4 values, and the header 3"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, text, says):
    path = write(tmp_path / ("a.tsv" if "\t" in text else "a.csv"), text)
    with pytest.raises(DataError, match=says):
        open_table(path).read()


def test_byte_order_mark_and_padded_names_are_taken_off(tmp_path):
    path = write(tmp_path / "a.csv", "\ufeffuser_id, item_id\n1,a\n")
    assert open_table(path).columns == ("user_id", "item_id")
    assert open_table(path).read(["item_id"]).rows() == [("a",)]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b" \n\n", "empty"),
        ("a.csv", b"PAR1....", "Parquet"),
        ("a.csv", b"PK\x03\x04....", "Excel"),
        ("a.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "gzip"),
        ("a.csv.gz", b"a,b\n1,2\n", "cannot be read"),
        ("a.csv", "a,b\n1,é\n".encode("latin-1"), "UTF-8"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"<!DOCTYPE html>", "web page"),
        ("a.csv", b'{"a": 1}\n', "JSON lines"),
        ("a.csv", b"user::item::rating\n1::2::3\n", "delimiter"),
        ("a.parquet", b"a,b\n1,2\n", "not a Parquet file"),
        ("a.parquet", b"PAR1 and then nothing", "cannot be read"),
        ("a.jsonl", b'[{"a": 1}]', "JSON array"),
        ("a.jsonl", b"a,b\n1,2\n", "no JSON object"),
        ("a.xlsx", b"whatever", "unknown kind"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_names_the_near_one(tmp_path):
    (tmp_path / "food.items.parquet").touch()
    with pytest.raises(DataError, match=r"no such file.*'food\.items\.parquet'"):
        read_table(tmp_path / "food.item.parquet")
    with pytest.raises(DataError, match="is a folder"):
        read_table(tmp_path)
