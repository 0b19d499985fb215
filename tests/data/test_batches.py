import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.data.batches import Windows
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
