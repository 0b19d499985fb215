import sys

import pytest

from isthmus.training.progress import progress


def test_it_is_quiet_in_a_pipe(capsys):
    with progress("training", 3) as tick:
        for _ in range(3):
            tick("loss 1.0")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_sees_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress("a long job", 4) as tick:
        tick("loss 1.0")
        tick("loss 0.5")
    out, err = capsys.readouterr()
    assert out == ""
    assert "a long job" in err
    assert "2/4" in err
    assert "loss 0.5" in err


def test_an_error_within_comes_out(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def job() -> None:
        with progress("a job", 2) as tick:
            tick("so far so good")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job()
