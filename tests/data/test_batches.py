import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.batches import NewcomerWindows, Windows
from isthmus.data.dataset import Events


def _events(lengths: list[int]) -> Events:
    user = np.repeat(np.arange(len(lengths)), lengths)
    n = len(user)
    return Events.from_columns(
        len(lengths), user, np.zeros(n, np.int16), np.arange(n, dtype=np.int32), np.arange(n) * 1.0
    )


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=20),
    max_length=st.integers(1, 12),
    batch_events=st.integers(16, 64),
)
def test_every_event_but_a_users_first_is_a_target_once(lengths, max_length, batch_events):
    events = _events(lengths)
    windows = Windows.cut(events, max_length)
    batches = list(windows.batches(batch_events, np.random.default_rng(0)))
    targets = np.sort(np.concatenate([b.targets for b in batches] or [np.empty(0, np.int64)]))
    expected = [i for i in range(len(events)) if i not in set(events.offsets[:-1].tolist())]
    assert targets.tolist() == expected
    for batch in batches:
        assert (np.diff(batch.offsets) <= max_length).all()
        assert (batch.targets == batch.inputs + 1).all()
        assert (events.user[batch.targets] == events.user[batch.inputs]).all()
        assert len(batch.targets) < batch_events + max_length * 2


def test_an_epoch_is_random_but_seeded():
    windows = Windows.cut(_events([9, 4, 7, 7, 12, 3] * 5), 5)
    first = [b.targets.tolist() for b in windows.batches(16, np.random.default_rng(0))]
    again = [b.targets.tolist() for b in windows.batches(16, np.random.default_rng(0))]
    other = [b.targets.tolist() for b in windows.batches(16, np.random.default_rng(1))]
    assert first == again != other


@settings(deadline=None, max_examples=60)
@given(
    histories=st.lists(st.lists(st.integers(0, 2), max_size=15), min_size=1, max_size=12),
    max_length=st.integers(1, 6),
    reach=st.integers(1, 4),
)
def test_a_newcomers_window_shows_what_they_did_elsewhere_and_asks_for_what_followed(
    histories, max_length, reach
):
    domain = np.array([d for history in histories for d in history], np.int16)
    user = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    place = np.arange(len(user))
    events = Events.from_columns(
        len(histories), user, domain, place.astype(np.int32), place.astype(np.float64)
    )
    for d in range(3):
        windows = NewcomerWindows.cut(events, d, max_length)
        read = []
        for batch in windows.batches(8, np.random.default_rng(0), reach=reach):
            assert (np.diff(batch.offsets) <= max_length).all()
            for window in range(len(batch.offsets) - 1):
                inside = slice(batch.offsets[window], batch.offsets[window + 1])
                assert len(set(user[batch.inputs[inside]].tolist())) == 1
                assert (np.diff(batch.inputs[inside]) > 0).all()
            for one, answer in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
                following = [i for i in place[one:] if user[i] == user[one] and domain[i] == d]
                assert answer in following[:reach]
            read += batch.inputs.tolist()
        expected = [
            i for i in place if domain[i] != d and (domain[i:][user[i:] == user[i]] == d).any()
        ]
        assert sorted(read) == expected


def test_what_a_newcomer_is_asked_for_is_drawn_among_the_next_few():
    domain = np.array([0, 1, 1, 1, 1], np.int16)
    user, item = np.zeros(5, np.int64), np.arange(5, dtype=np.int32)
    windows = NewcomerWindows.cut(Events.from_columns(1, user, domain, item, np.arange(5.0)), 1, 4)
    rng = np.random.default_rng(0)
    asked = [next(windows.batches(8, rng, reach=3)).targets.item() for _ in range(60)]
    assert set(asked) == {1, 2, 3}
    assert min(asked.count(i) for i in (1, 2, 3)) > 10
