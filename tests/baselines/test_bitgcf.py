from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from baseline_world import dataset_of, random_world
from neighbour_world import BOOKS, GEAR, ndcg, one_left, two_shops

from isthmus.baselines.als import taken_matrix
from isthmus.baselines.bitgcf import BiTGCF, BiTGCFConfig
from isthmus.baselines.history import everybody
from isthmus.baselines.transfer_graphs import GraphTask, TransferGraphs, transferred
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split, leave_one_out
from isthmus.errors import ConfigError
from isthmus.scoring import Requests

CONFIG = Config.model_validate(
    {"training": {"negatives": 64, "device": "cpu", "evaluate_every": 5, "threads": 1}}
)
SMALL: dict[str, Any] = {
    "dim": 16,
    "batch": 2048,
    "epochs": 20,
    "learning_rate": 0.03,
    "temperature": 0.3,
    "recency": 0.9,
}


def fitted(dataset: Dataset, split: Split, **options: Any) -> BiTGCF:
    return BiTGCF.fit(dataset, split, CONFIG, BiTGCFConfig(**(SMALL | options)))


def test_transfer_between_graphs_beats_graphs_apart():
    dataset = two_shops(1.0).dataset
    split = leave_one_out(dataset)
    joined, apart = fitted(dataset, split), fitted(dataset, split, retention=None)
    hidden = one_left(dataset)
    one = [ndcg(scorer, dataset, split.test, hidden=hidden) for scorer in (joined, apart)]
    new = [ndcg(scorer, dataset, split.test, newcomers=True) for scorer in (joined, apart)]
    assert one[0] > 1.08 * one[1]
    assert new[0] > 3 * new[1]


def test_where_nothing_carries_over_it_gains_nothing():
    dataset = two_shops(0.0).dataset
    split = leave_one_out(dataset)
    joined, apart = fitted(dataset, split), fitted(dataset, split, retention=None)
    hidden = one_left(dataset)
    assert ndcg(joined, dataset, split.test, hidden=hidden) < 1.05 * ndcg(
        apart, dataset, split.test, hidden=hidden
    )


def test_states_of_people_are_mixed_as_published():
    own, other = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[0.0, 1.0]] * 3)
    counts = torch.tensor([[3, 1], [3, 0], [0, 2]])
    mixed, mixed_other = transferred([own, other], counts, 0.8)
    # Half keeps .8 of its own, half is weighted by events: 3 of 4 here, 1 of 4 there.
    np.testing.assert_allclose(mixed[0], [(0.8 + 0.75) / 2, (0.2 + 0.25) / 2])
    np.testing.assert_allclose(mixed_other[0], [(0.2 + 0.75) / 2, (0.8 + 0.25) / 2])
    np.testing.assert_allclose(mixed[1], own[1])
    # Somebody new to a domain is there what they are elsewhere, but for what they keep.
    np.testing.assert_allclose(mixed_other[1], [(0.2 + 1.0) / 2, 0.8 / 2])


def test_with_three_domains_the_others_have_one_voice_together():
    states = [torch.eye(3)[[d]] for d in range(3)]
    counts = torch.tensor([[2, 1, 1]])
    first = transferred(states, counts, 0.6)[0][0]
    np.testing.assert_allclose(first, [(0.6 + 0.5) / 2, (0.2 + 0.25) / 2, (0.2 + 0.25) / 2])


def test_who_asks_is_answered_as_training_saw_them():
    """A history asked about as a request is in the state of the person in the graph."""
    dataset = random_world(7)
    split = leave_one_out(dataset)
    options = BiTGCFConfig(dim=4, epochs=2, recency=1.0, layers=2)
    scorer = BiTGCF.fit(dataset, split, CONFIG, options)
    events = split.train_events(dataset)
    graphs = TransferGraphs(
        dataset,
        taken_matrix(dataset, events),
        dim=4,
        layers=2,
        retention=options.retention,
        seed=0,
        device=torch.device("cpu"),
    )
    layers = scorer.state().arrays["layers"]
    offsets = dataset.item_offsets
    with torch.no_grad():
        for d, first in enumerate(graphs.items):
            first.copy_(torch.from_numpy(layers[0][offsets[d] : offsets[d + 1]]))
        people = graphs.run()[0]
    requests = everybody(events)
    for d in (0, 1):
        state = torch.stack([layer[d] for layer in people]).mean(0).numpy()
        items = layers.mean(0)[offsets[d] : offsets[d + 1]]
        items = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
        expected = state @ items.T * (options.layers + 1)
        active = np.diff(events.only(d).offsets) > 0
        found = scorer.score(requests, d).total
        np.testing.assert_allclose(found[active], expected[active], rtol=1e-3, atol=1e-5)


def test_a_killed_run_goes_on_to_the_same_scores(tmp_path):
    dataset = random_world(2)
    split = leave_one_out(dataset)
    options = BiTGCFConfig(dim=4, epochs=3)
    requests = Requests.of_users(dataset, np.arange(dataset.n_users))
    whole = BiTGCF.fit(dataset, split, CONFIG, options).score(requests, 0).total
    for _ in range(2):
        kept = BiTGCF.fit(dataset, split, CONFIG, options, folder=tmp_path / "run")
        np.testing.assert_array_equal(kept.score(requests, 0).total, whole)
    other = BiTGCF.fit(dataset, split, CONFIG.override("seed=1"), options)
    assert not np.array_equal(other.score(requests, 0).total, whole)


def test_other_questions_to_stop_by_are_another_run(tmp_path):
    dataset = random_world(2)
    split = leave_one_out(dataset)
    half = replace(split, stopping=Queries(split.stopping.position[::2]))
    options = BiTGCFConfig(dim=4, epochs=3)
    BiTGCF.fit(dataset, split, CONFIG, options, folder=tmp_path / "run")
    begun = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GraphTask, "batches", lambda self, rng: iter(begun.append(1) or ()))
        BiTGCF.fit(dataset, split, CONFIG, options, folder=tmp_path / "run")
        assert not begun, "it was finished"
        BiTGCF.fit(dataset, half, CONFIG, options, folder=tmp_path / "run")
        assert begun


def test_domains_that_share_nobody_are_refused():
    histories = [[(BOOKS, 0), (BOOKS, 1), (BOOKS, 2)], [(GEAR, 0), (GEAR, 1), (GEAR, 2)]]
    dataset = dataset_of(histories, (3, 3))
    with pytest.raises(ConfigError, match=r"bitgcf: it carries over by people in common"):
        BiTGCF.fit(dataset, leave_one_out(dataset), CONFIG)
