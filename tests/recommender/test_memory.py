"""Memory that runs out while a recommender learns: the settings to lower are named."""

import pytest
from recommender_world import quick_config, small_world

from isthmus.errors import TrainingError
from isthmus.recommender import Recommender
from word_encoder import WordEncoder


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (
            "isthmus.training.next_item.NextItemTask.loss",
            r"training\.batch_events: memory ran out\. Lower training\.batch_events, or training",
        ),
        (
            "isthmus.model.learn.mean_ndcg",
            r"evaluation\.batch: memory ran out\. Lower evaluation\.batch",
        ),
    ],
)
@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), MemoryError()],
)
def test_what_to_lower_is_named(
    place: str, said: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_given: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(place, greedy)
    with pytest.raises(TrainingError, match=said) as caught:
        Recommender.fit(small_world(120), quick_config(), encoder=WordEncoder())
    assert caught.value.__cause__ is error
