"""Sentences on what a step left out or gave up."""

from __future__ import annotations

from isthmus.online.notes import heads_note, left_out_note


def test_nothing_left_out_is_not_spoken_of() -> None:
    assert left_out_note({}, (), ("books", "gear")) is None


def test_reasons_are_counted_and_only_an_unknown_domain_is_advised_on() -> None:
    left_out = {"of people who are hidden": 1, "of kind 'look', which is not kept": 1200}
    said = left_out_note(left_out, (), ("books", "gear"))
    assert said == (
        "1,201 events were left out: 1,200 of kind 'look', which is not kept; "
        "1 of people who are hidden."
    )
    said = left_out_note({"of domain 'gaer', which …": 1}, ("gaer",), ("books", "films", "gear"))
    assert said is not None
    assert said.startswith(
        "1 event was left out: 1 of domain 'gaer', which …. The model has books, "
    )
    assert "books, films and gear. If 'gaer' should be one of these, correct the name" in said


def test_of_many_reasons_the_most_frequent_are_listed() -> None:
    names = tuple(f"d{n}" for n in range(30))
    said = left_out_note({f"of domain {n!r}": 40 - int(n[1:]) for n in names}, names, ("books",))
    assert said is not None
    assert "40 of domain 'd0'; 39 of domain 'd1'; 38" in said
    assert "; 575 for 25 further reasons." in said
    assert "'d4' and 25 more should be" in said
    assert "'d5'" not in said


def test_heads_are_to_be_had_by_the_way_back_or_by_teaching_again() -> None:
    both = ("rate", "click")
    said = heads_note(both, "v000002", "v000001", live=True, again=False)
    assert said == (
        "The heads for rate and click were not carried over: v000002 only ranks. To have them, go "
        "back to v000001, which has them, with 'isthmus models promote v000001', or fit again with "
        "'isthmus fit', and teach that."
    )
    said = heads_note(both, "v000002", None, live=True, again=True)
    assert said.endswith(
        "To have them, teach it by 'isthmus teach rate' and 'isthmus teach click'."
    )
    said = heads_note(("rate",), "v000002", "v000001", live=False, again=True)
    assert said == (
        "The heads for rate were not carried over: v000002 only ranks. v000001 has them still."
    )
