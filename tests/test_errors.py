"""Every deliberate error says what, where and what to do, and is caught by one type."""

import pytest

from isthmus import errors
from isthmus.errors import IsthmusError, did_you_mean

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]
KINDS = [kind for kind in KINDS if issubclass(kind, IsthmusError)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_carries_what_where_and_hint(kind):
    error = kind("no column 'usr'", where="events.csv", hint="Did you mean 'user'?")
    assert (error.what, error.where, error.hint) == (
        "no column 'usr'",
        "events.csv",
        "Did you mean 'user'?",
    )
    assert str(error).startswith("events.csv: no column 'usr'. Did you mean 'user'?")
    assert isinstance(error, IsthmusError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"what": "it broke"}, "it broke."),
        ({"what": "it broke."}, "it broke."),
        ({"what": "it broke", "where": "row 3"}, "row 3: it broke."),
        ({"what": "it broke", "hint": "Mend it."}, "it broke. Mend it."),
        ({"what": "it broke.", "where": "row 3", "hint": "Mend it"}, "row 3: it broke. Mend it."),
        ({"what": "it broke", "hint": "Did you mean 'a'?"}, "it broke. Did you mean 'a'?"),
        ({"what": "it broke", "hint": "Known: a, b, …"}, "it broke. Known: a, b, …"),
    ],
)
def test_the_message_is_whole_sentences(arguments, message):
    assert str(IsthmusError(**arguments)) == message


def test_near_names_come_first():
    assert did_you_mean("user", ["users", "items", "title"]) == "Did you mean 'users'?"
    assert did_you_mean("itm", ["item", "items"]) == "Did you mean 'item' or 'items'?"


def test_where_nothing_is_near_the_known_are_listed():
    assert did_you_mean("zebra", ["b", "a"]) == "Known: a, b"
    assert did_you_mean("zebra", []) == "None is known"


def test_a_long_list_is_cut():
    hint = did_you_mean("zebra", [f"column{i:02d}" for i in range(30)])
    assert hint.endswith(", …")
    assert hint.count("column") == 20
