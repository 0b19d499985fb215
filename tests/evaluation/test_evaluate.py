from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from evaluation_world import TableScorer, renumbered, small_dataset, table_scorer
from numpy.typing import NDArray

from isthmus.config import EvaluationConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split, make_split
from isthmus.errors import CheckpointError, DataError
from isthmus.evaluation.compare import compare, harm
from isthmus.evaluation.evaluate import evaluate
from isthmus.evaluation.ranks import rank
from isthmus.evaluation.result import RECORD_SCHEMA, Evaluation, pool
from isthmus.evaluation.significance import mean_ci, paired
from isthmus.scoring import Requests, Scores

CONFIG = EvaluationConfig(cutoffs=[5, 10], min_slice=10, bootstrap=100, cold_share=0.5)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return small_dataset(n_users=120)


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return make_split(dataset, "global")


@pytest.fixture(scope="module")
def evaluation(dataset: Dataset, split: Split) -> Evaluation:
    return evaluate(table_scorer(dataset), dataset, split, 0, config=CONFIG)


class Clairvoyant:
    """Knows each user's answer, which no honest scorer can."""

    name = "clairvoyant"

    def __init__(self, dataset: Dataset, split: Split) -> None:
        self.n_items = dataset.domains[0].n_items
        events, asked = dataset.events, split.test.position
        self.answers = {
            (int(events.user[p]), int(p - events.offsets[events.user[p]])): int(events.item[p])
            for p in asked
        }

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        total = np.zeros((len(requests), self.n_items), np.float32)
        for row, key in enumerate(zip(requests.user, requests.lengths, strict=True)):
            total[row, self.answers.get((int(key[0]), int(key[1])), 0)] = 1
        return Scores(total)


def test_knowing_the_answer_is_worth_one_and_the_cold_slice_knows_nobody(
    dataset: Dataset, split: Split
) -> None:
    found = evaluate(Clairvoyant(dataset, split), dataset, split, 0, config=CONFIG)
    assert found.mean("mrr") == 1
    assert found.mean("hit_rate@5") == 1
    assert found.mean("mrr", "cold users") < 0.5


def test_both_asks_are_joined(dataset: Dataset, split: Split, evaluation: Evaluation) -> None:
    scorer = table_scorer(dataset)
    plain = rank(scorer, dataset, split.test, 0, config=CONFIG)
    n = len(plain)
    assert evaluation.position[:n].tolist() == plain.position.tolist()
    assert evaluation.slices["all"].tolist() == [i < n for i in range(len(evaluation))]
    assert evaluation.slices["cold users"].tolist() == [i >= n for i in range(len(evaluation))]
    cold = rank(
        scorer,
        dataset,
        split.test,
        0,
        config=CONFIG,
        hide_target_history=True,
    )
    places = dict(zip(cold.position.tolist(), cold.above.tolist(), strict=True))
    for position, value in zip(evaluation.position[n:], evaluation.values["mrr"][n:], strict=True):
        assert value == pytest.approx(1 / (places[position] + 1))


def test_too_few_cold_questions_are_not_asked_and_that_is_said(
    dataset: Dataset, split: Split
) -> None:
    found = evaluate(
        table_scorer(dataset),
        dataset,
        split,
        0,
        config=CONFIG.model_copy(update={"cold_share": 0.0}),
    )
    assert "cold users" not in found.slices
    assert "cold users: 0 questions, too few to be asked" in found.notes


def test_one_domain_alone_has_no_cold_users() -> None:
    dataset = small_dataset(n_users=80, n_items=(30,))
    split = make_split(dataset, "leave-one-out")
    found = evaluate(table_scorer(dataset), dataset, split, 0, config=CONFIG)
    assert "cold users" not in found.slices


def test_new_items_are_counted_in_training_alone() -> None:
    dataset = small_dataset(n_users=120, n_items=(900, 20))
    split = make_split(dataset, "global")
    found = evaluate(table_scorer(dataset), dataset, split, 0, config=CONFIG)
    train = split.train_events(dataset)
    trained = set(train.item[train.domain == 0].tolist())
    asked = found.slices["all"]
    answers = dataset.events.item[found.position[asked]]
    new = found.slices["new items"][asked]
    assert new.tolist() == [int(a) not in trained for a in answers]
    assert 0 < new.sum() < len(new)


def test_records_are_long_and_carry_intervals(evaluation: Evaluation) -> None:
    records = evaluation.records(system="ours", sources=["a", "b"], share=0.1, seed=3)
    assert records.schema == RECORD_SCHEMA
    row = records.row(
        by_predicate=(pl.col("slice") == "cold users") & (pl.col("metric") == "ndcg@10"), named=True
    )
    mask = evaluation.slices["cold users"]
    assert row["value"] == pytest.approx(evaluation.values["ndcg@10"][mask].mean())
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert row["n"] == mask.sum()
    assert (row["system"], row["sources"], row["target"]) == ("ours", "a+b", "domain0")
    assert (row["protocol"], row["share"], row["seed"]) == ("full", 0.1, 3)
    assert (row["control"], row["against"]) == ("none", None)
    wanted = len(evaluation.slices) * len(evaluation.values) + len(evaluation.totals)
    assert records.height == wanted
    assert records.filter(metric="coverage@10")["slice"].to_list() == ["all"]


def test_records_of_everybody_agree_with_the_plain_interval(dataset: Dataset, split: Split) -> None:
    config = CONFIG.model_copy(update={"cold_share": 0.0})
    found = evaluate(table_scorer(dataset), dataset, split, 0, config=config)
    row = found.records().row(
        by_predicate=(pl.col("slice") == "all") & (pl.col("metric") == "mrr"), named=True
    )
    expected = mean_ci(found.values["mrr"], found.user, n_resamples=100)
    assert (row["value"], row["ci_low"], row["ci_high"]) == pytest.approx(expected)


def test_saving_and_loading_gives_the_same_back(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.save(tmp_path / "e.parquet")
    back = Evaluation.load(tmp_path / "e.parquet")
    assert back.records().equals(evaluation.records())
    assert back.position.tolist() == evaluation.position.tolist()
    assert (back.notes, back.split, back.totals) == (
        evaluation.notes,
        evaluation.split,
        evaluation.totals,
    )


def test_loading_something_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no table")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "other.parquet")
    for name in ("text.parquet", "other.parquet", "missing.parquet"):
        with pytest.raises(CheckpointError, match="not a saved evaluation"):
            Evaluation.load(tmp_path / name)


def test_pooling_averages_each_question(dataset: Dataset, split: Split) -> None:
    runs = [
        evaluate(table_scorer(dataset, seed), dataset, split, 0, config=CONFIG) for seed in range(3)
    ]
    pooled = pool(runs)
    expected = np.mean([run.values["ndcg@10"] for run in runs], axis=0)
    np.testing.assert_allclose(pooled.values["ndcg@10"], expected)
    assert pooled.mean("coverage@5") == pytest.approx(np.mean([r.mean("coverage@5") for r in runs]))
    assert pooled.mean("mrr") == pytest.approx(np.mean([run.mean("mrr") for run in runs]))


def test_comparing_is_paired_and_corrected_over_slices(dataset: Dataset, split: Split) -> None:
    config = CONFIG.model_copy(update={"cold_share": 0.0})
    weak = table_scorer(dataset, name="weak")
    popular = np.bincount(dataset.events.item[dataset.events.domain == 0], minlength=30)
    strong = TableScorer([weak.tables[0] + 0.3 * popular, weak.tables[1]], "strong")
    a, b = (evaluate(s, dataset, split, 0, config=config) for s in (strong, weak))
    rows = compare(a, b)
    assert rows.schema == RECORD_SCHEMA
    assert set(rows["against"]) == {"weak"}
    one = rows.row(
        by_predicate=(pl.col("slice") == "all") & (pl.col("metric") == "ndcg@10"), named=True
    )
    drawn = max(a.n_resamples, 40 * len(a.slices))
    expected = paired(a.values["ndcg@10"], b.values["ndcg@10"], a.user, n_resamples=drawn)
    names = ("value", "ci_low", "ci_high", "relative", "rel_low", "rel_high", "p")
    assert [one[name] for name in names] == pytest.approx(list(expected))
    family = rows.filter(metric="ndcg@10")
    assert family.height == len(a.slices)
    assert (family["p_holm"] >= family["p"]).all()
    assert family["p_holm"].min() == pytest.approx(family["p"].min() * family.height)


def test_harm_lists_the_slices_that_are_surely_worse(dataset: Dataset, split: Split) -> None:
    good = table_scorer(dataset, name="good")
    config = CONFIG.model_copy(update={"bootstrap": 2000, "cold_share": 0.0})
    a = evaluate(good, dataset, split, 0, config=config)
    seen = a.slices["seen items"]
    hurt = replace(
        a,
        system="hurt",
        values={**a.values, "ndcg@10": np.where(seen, a.values["ndcg@10"], 1.0) * 0.5},
    )
    worse = harm(compare(hurt, a))
    assert "seen items" in set(worse["slice"])
    assert "new items" not in set(worse["slice"])
    assert (worse["value"] < 0).all()
    assert harm(compare(a, a)).height == 0
    assert harm(compare(a, hurt)).height == 0


def test_few_resamples_do_not_hide_harm(dataset: Dataset, split: Split) -> None:
    config = CONFIG.model_copy(update={"bootstrap": 100})
    a = evaluate(table_scorer(dataset), dataset, split, 0, config=config)
    n = len(a.user)
    slices = {f"slice {i}": np.arange(n) % 8 != i for i in range(8)}
    right, wrong = (
        replace(a, values={"ndcg@10": np.full(n, value)}, slices=slices) for value in (0.5, 0.0)
    )
    assert harm(compare(wrong, right)).height == 8


def test_harm_reads_the_corrected_p_of_one_metric() -> None:
    rows = pl.DataFrame(
        {
            "metric": ["ndcg@10", "ndcg@10", "ndcg@10", "mrr"],
            "slice": ["sure", "surer", "not after Holm", "another metric"],
            "value": [-0.01, -0.02, -0.03, -0.04],
            "p": [0.002, 0.002, 0.03, 0.002],
            "p_holm": [0.01, 0.01, 0.09, 0.01],
        }
    )
    assert harm(rows)["slice"].to_list() == ["surer", "sure"]
    assert harm(rows, metric="mrr")["slice"].to_list() == ["another metric"]


def test_other_questions_cannot_be_compared(
    dataset: Dataset, split: Split, evaluation: Evaluation
) -> None:
    for other in (
        evaluate(table_scorer(dataset), dataset, split, 1, config=CONFIG),
        evaluate(table_scorer(dataset), dataset, split, 0, config=CONFIG, queries="tuning"),
    ):
        with pytest.raises(DataError, match="not asked the same questions"):
            compare(evaluation, other)
        with pytest.raises(DataError, match="not asked the same questions"):
            pool([evaluation, other])


def test_renumbering_the_items_changes_no_figure(dataset: Dataset, split: Split) -> None:
    other, new_to_old = renumbered(dataset, seed=5)
    scorer = table_scorer(dataset, levels=4)
    moved = TableScorer(
        [t[:, o] for t, o in zip(scorer.tables, new_to_old, strict=True)], scorer.name
    )
    a = evaluate(scorer, dataset, split, 0, config=CONFIG)
    b = evaluate(moved, other, make_split(other, "global"), 0, config=CONFIG)
    assert a.totals == b.totals
    for metric, values in a.values.items():
        np.testing.assert_allclose(b.values[metric], values, err_msg=metric)


def test_the_sampled_protocol_is_labelled(dataset: Dataset, split: Split) -> None:
    config = CONFIG.model_copy(update={"candidates": 4})
    found = evaluate(table_scorer(dataset), dataset, split, 0, config=config)
    assert set(found.records()["protocol"]) == {"sampled"}
    assert found.mean("hit_rate@5") == 1
    assert not found.totals


def test_hidden_events_are_in_no_history_and_still_no_candidates(
    dataset: Dataset, split: Split
) -> None:
    """People of an odd row lose what they did in the target."""
    events = dataset.events
    hidden = (events.domain == 0) & (events.user % 2 == 1)
    left = replace(split, in_train=split.in_train & ~hidden)
    shown, scorer = table_scorer(dataset), table_scorer(dataset)
    part = evaluate(shown, dataset, left, 0, config=CONFIG, hidden=hidden)
    whole = evaluate(scorer, dataset, split, 0, config=CONFIG)
    odd = [r.user[r.rows] % 2 == 1 for r in shown.asked]
    assert not any((o & (r.domain == 0)).any() for o, r in zip(odd, shown.asked, strict=True))
    assert any((r.domain[r.user[r.rows] % 2 == 1] == 0).any() for r in scorer.asked)
    # Scores here depend on the user alone, so equal ranks mean equal candidates.
    assert np.array_equal(part.position, whole.position)
    assert np.array_equal(part.values["ndcg@10"], whole.values["ndcg@10"])
    newcomers = part.user[part.slices["new to the target"]]
    assert set(newcomers) >= {u for u in part.user[part.slices["all"]] if u % 2}
    assert not (part.slices["kept users"] & part.slices["new to the target"]).any()
    assert (part.slices["kept users"] | part.slices["new to the target"])[part.slices["all"]].all()
    assert "kept users" not in whole.slices


def test_history_is_cut_to_its_length_after_hiding(dataset: Dataset, split: Split) -> None:
    position = split.test.position
    hidden = np.zeros(len(dataset.events), bool)
    hidden[::2] = True
    all_left = Requests.at(dataset, position, max_history=10**6, hidden=hidden)
    short = Requests.at(dataset, position, max_history=3, hidden=hidden)
    assert short.lengths.tolist() == np.minimum(all_left.lengths, 3).tolist()
    assert short.lengths.max() == 3
    assert np.array_equal(short.item, all_left.keep(all_left.age < 3).item)
