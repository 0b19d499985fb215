from __future__ import annotations

import numpy as np
from baseline_world import dataset_of

from isthmus.baselines.popular import Popular
from isthmus.baselines.sasrec import fit_sasrec
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split, leave_one_out
from isthmus.evaluation.metrics import per_query
from isthmus.evaluation.ranks import rank
from isthmus.scoring import Requests, Scorer

N_ITEMS = 40


def _chain(seed: int = 0) -> tuple[Dataset, Split]:
    """In the second domain item i is followed by i + 1; the first domain is noise between."""
    rng = np.random.default_rng(seed)
    histories = []
    for _ in range(250):
        start = int(rng.integers(N_ITEMS))
        history = []
        for step in range(int(rng.integers(4, 9))):
            history.append((1, (start + step) % N_ITEMS))
            history.extend([(0, int(rng.integers(30)))] * int(rng.integers(0, 2)))
        histories.append([*history, (1, (history[-1][1] + 1) % N_ITEMS)])
    # The last event is of the chain, whatever stood before it.
    for history in histories:
        own = [item for domain, item in history[:-1] if domain == 1]
        history[-1] = (1, (own[-1] + 1) % N_ITEMS)
    dataset = dataset_of(histories, (30, N_ITEMS))
    return dataset, leave_one_out(dataset)


CONFIG = Config.model_validate(
    {
        "model": {"dim": 16, "layers": 1, "heads": 2, "max_length": 10, "dropout": 0.1},
        "training": {
            "epochs": 30,
            "evaluate_every": 5,
            "batch_events": 256,
            "negatives": 32,
            "learning_rate": 0.01,
            "device": "cpu",
        },
        "evaluation": {"cutoffs": [1, 10]},
    }
)


def _hits(scorer: Scorer, dataset: Dataset, split: Split) -> float:
    ranking = rank(scorer, dataset, split.test, 1, config=CONFIG.evaluation)
    return float(per_query(ranking, [1])["hit_rate@1"].mean())


def test_it_learns_what_follows_what():
    dataset, split = _chain()
    scorer, log = fit_sasrec(dataset, split, 1, CONFIG)
    popular = Popular.fit(dataset, split.train_events(dataset))
    assert _hits(popular, dataset, split) < 0.15
    assert _hits(scorer, dataset, split) > 0.8
    assert log.epochs[-1]["loss"] < 0.5 * log.epochs[0]["loss"]


def test_it_knows_ids_where_ours_is_told_to_do_without():
    dataset, split = _chain()
    config = CONFIG.override("training.epochs=1", "model.use_ids=false")
    scorer, _ = fit_sasrec(dataset, split, 1, config)
    usual, _ = fit_sasrec(dataset, split, 1, CONFIG.override("training.epochs=1"))
    requests = Requests.of_users(dataset, np.arange(20))
    np.testing.assert_array_equal(scorer.score(requests, 1).total, usual.score(requests, 1).total)


def test_it_knows_ids_and_the_targets_history_alone():
    dataset, split = _chain()
    config = CONFIG.override("training.epochs=1")
    scorer, _ = fit_sasrec(dataset, split, 1, config)
    assert scorer.name == "sasrec"
    assert scorer.reads == (1,)
    assert not scorer.model.items.use_text
    assert len(scorer.model.users.adapters) == 0
    assert scorer.model.users.gap is None
    requests = Requests.at(dataset, split.test.position[:30])
    whole = scorer.score(requests, 1).total
    np.testing.assert_allclose(scorer.score(requests.only(1), 1).total, whole, atol=1e-6)


def test_the_same_seed_gives_the_same_scores(tmp_path):
    dataset, split = _chain()
    config = CONFIG.override("training.epochs=2")
    requests = Requests.at(dataset, split.test.position[:30])
    one, first = fit_sasrec(dataset, split, 1, config, folder=tmp_path / "run")
    two, _ = fit_sasrec(dataset, split, 1, config)
    assert np.array_equal(one.score(requests, 1).total, two.score(requests, 1).total)
    resumed, again = fit_sasrec(dataset, split, 1, config, folder=tmp_path / "run")
    assert again == first
    assert np.array_equal(resumed.score(requests, 1).total, one.score(requests, 1).total)
    other, _ = fit_sasrec(dataset, split, 1, config.override("seed=1"))
    assert not np.array_equal(other.score(requests, 1).total, one.score(requests, 1).total)
