"""The long evidence is read rightly from what its studies print."""

import proof


def test_the_last_record_is_found_whatever_is_printed_before_it() -> None:
    record = '{\n "a": {\n  "b": 1\n },\n "c": 2\n}\n'
    found = {"a": {"b": 1}, "c": 2}
    assert proof._last_json(record) == found
    assert proof._last_json("{'train_loss': '4.9'}\n" + record) == found
    assert proof._last_json('{"step": 1}\n{"a": 1}\n') == {"a": 1}
