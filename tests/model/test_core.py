import numpy as np
import pytest
import torch

from isthmus.config import ModelConfig
from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel
from isthmus.model.scorer import NeuralScorer
from isthmus.model.user_tower import N_GAPS, gap_buckets
from isthmus.scoring import Request, Requests

SIZES = ModelConfig(dim=8, layers=2, heads=2, dropout=0.0, max_length=6, adapter_rank=2)


def _features(*counts: int) -> list[ItemFeatures]:
    rng = np.random.default_rng(0)
    return [
        ItemFeatures(rng.normal(size=(n, 5)).astype(np.float32), np.arange(n) % 3 != 0)
        for n in counts
    ]


@pytest.fixture
def model() -> CoreModel:
    model = CoreModel(_features(7, 9), np.arange(16, dtype=np.float32), SIZES, seed=0)
    for adapter in model.users.adapters:
        torch.nn.init.normal_(adapter.up.weight, std=0.1)
    return model.eval()


def _request(length: int, seed: int = 0) -> Request:
    rng = np.random.default_rng(seed)
    history = [(int(rng.integers(2)), int(rng.integers(7))) for _ in range(length)]
    return Request(history=history, times=[1e9 + 5000.0 * i**2 for i in range(length)])


def test_a_score_does_not_depend_on_who_else_is_in_the_batch(model):
    scorer = NeuralScorer(model, (0, 1))
    requests = [_request(n, seed=n) for n in (1, 5, 2, 6, 3)]
    together = scorer.score(Requests.of(requests), 1).total
    alone = np.concatenate([scorer.score(Requests.of([r]), 1).total for r in requests])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_the_future_is_out_of_sight(model):
    rows = torch.arange(6)
    changed = rows.clone()
    changed[-1] = 15
    domain, time = torch.zeros(6, dtype=torch.long), torch.arange(6) * 1e5
    offsets = torch.tensor([0, 6])
    before = model.states(model.item_vectors(rows), domain, time.double(), offsets)
    after = model.states(model.item_vectors(changed), domain, time.double(), offsets)
    assert torch.allclose(before[:5], after[:5], atol=1e-6)
    assert not torch.allclose(before[5], after[5], atol=1e-3)


def test_the_last_states_alone_are_those_of_the_whole_pass(model):
    lengths = [1, 6, 3, 4]
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    rows = torch.arange(14) % 16
    domain, time = (rows >= 7).long(), torch.arange(14).double() ** 2 * 5000
    vectors = model.item_vectors(rows)
    whole = model.states(vectors, domain, time, offsets)
    last = model.last_states(vectors, domain, time, offsets)
    assert torch.allclose(last, whole[offsets[1:] - 1], atol=1e-6)


def test_an_item_without_behaviour_is_its_text_alone(model):
    with torch.no_grad():
        vector = model.item_vectors(torch.tensor([0, 1]))
        model.items.table[:2] += 1.0
        moved = model.item_vectors(torch.tensor([0, 1]))
    assert torch.equal(vector[0], moved[0])
    assert not torch.equal(vector[1], moved[1])


def test_an_item_without_text_gets_the_stand_in_of_its_domain(model):
    with torch.no_grad():
        model.items.table.zero_()
        torch.nn.init.normal_(model.items.missing.weight)
        vectors = model.item_vectors(torch.tensor([0, 3, 7]))
    assert torch.equal(vectors[0], model.items.missing.weight[0])
    assert torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[2], model.items.missing.weight[1])


def test_without_a_readable_history_there_is_no_opinion(model):
    requests = Requests.of([Request(), Request(history=[(0, 1)])])
    scores = NeuralScorer(model, (1,)).score(requests, 1).total
    assert (scores == 0).all()


def test_only_the_latest_events_are_read(model):
    scorer = NeuralScorer(model, (0, 1))
    long = _request(20)
    short = Request(history=long.history[-6:], times=long.times[-6:])
    np.testing.assert_allclose(
        scorer.score(Requests.of([long]), 0).total, scorer.score(Requests.of([short]), 0).total
    )


def test_candidates_are_columns_of_the_whole_catalogue(model):
    scorer = NeuralScorer(model, (0, 1))
    requests = Requests.of([_request(4, seed=s) for s in range(3)])
    whole = scorer.score(requests, 1).total
    shared = np.array([8, 0, 3])
    own = np.array([[1, 2], [5, 5], [0, 8]])
    assert np.array_equal(scorer.score(requests, 1, shared).total, whole[:, shared])
    assert np.array_equal(
        scorer.score(requests, 1, own).total, np.take_along_axis(whole, own, axis=1)
    )


def test_an_unseen_item_is_known_by_its_text_alone_even_without_shrinkage():
    config = SIZES.model_copy(update={"id_shrinkage": 0.0})
    seen, unseen = np.ones(16, np.float32), np.zeros(16, np.float32)
    without = CoreModel(_features(7, 9), unseen, config, seed=0).eval()
    by_text = without.items.project(without.items.text)[:7][without.items.present[:7]]
    assert torch.allclose(without.catalogue(0)[without.items.present[:7]], by_text)
    trusted = CoreModel(_features(7, 9), seen, config, seed=0).eval()
    assert not torch.allclose(trusted.catalogue(0), without.catalogue(0))


def test_state_brings_the_same_scores_back(model):
    scorer = NeuralScorer(model, (0, 1))
    again = NeuralScorer.from_state(scorer.state(), _features(7, 9))
    requests = Requests.of([_request(5)])
    assert np.array_equal(again.score(requests, 0).total, scorer.score(requests, 0).total)


def test_gap_buckets_grow_with_the_gap_and_know_the_unknown():
    time = torch.tensor([0.0, 0.0, 3600.0, 3600.0 * 50, torch.nan, 1e9], dtype=torch.float64)
    first = torch.tensor([True, False, False, False, False, False])
    buckets = gap_buckets(time, first).tolist()
    assert buckets[0] == buckets[4] == buckets[5] == 0
    assert 0 < buckets[1] < buckets[2] < buckets[3] < N_GAPS
