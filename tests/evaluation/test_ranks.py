from __future__ import annotations

import numpy as np
import pytest
from evaluation_world import TableScorer, renumbered, small_dataset, table_scorer
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.config import EvaluationConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries
from isthmus.errors import DataError, RequestError
from isthmus.evaluation.ranks import Ranking, list_length, rank


def every_question(dataset: Dataset) -> Queries:
    return Queries(np.arange(len(dataset.events)))


def earlier_items(dataset: Dataset, position: int, domain: int) -> set[int]:
    start = dataset.events.offsets[dataset.events.user[position]]
    here = dataset.events.domain[start:position] == domain
    return set(dataset.events.item[start:position][here].tolist())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), levels=st.sampled_from([1, 3, 20, None]))
def test_counts_and_lists_agree_with_a_slow_count(seed: int, levels: int | None) -> None:
    dataset = small_dataset(seed, n_users=12)
    scorer = table_scorer(dataset, seed, levels=levels)
    config = EvaluationConfig(cutoffs=[3, 10], batch=7)
    ranking = rank(scorer, dataset, every_question(dataset), 1, config=config)
    for i, position in enumerate(ranking.position):
        answer = int(dataset.events.item[position])
        row = scorer.tables[1][dataset.events.user[position]]
        left = [j for j in range(20) if j not in earlier_items(dataset, position, 1) or j == answer]
        assert ranking.answer[i] == answer
        assert ranking.user[i] == dataset.events.user[position]
        assert ranking.above[i] == sum(row[j] > row[answer] for j in left)
        assert ranking.tied[i] == sum(row[j] == row[answer] for j in left)
        assert ranking.candidates[i] == len(left)
        listed = ranking.top[i][ranking.top[i] >= 0]
        assert set(listed.tolist()) <= set(left)
        assert len(set(listed.tolist())) == min(10, len(left))
        best = sorted((row[j] for j in left), reverse=True)[: len(listed)]
        assert row[listed].tolist() == best


def test_only_questions_about_the_target_are_asked() -> None:
    dataset = small_dataset()
    ranking = rank(
        table_scorer(dataset), dataset, every_question(dataset), 0, config=EvaluationConfig()
    )
    assert ranking.position.tolist() == np.flatnonzero(dataset.events.domain == 0).tolist()


@pytest.mark.parametrize("candidates", [None, 3])
def test_batch_size_changes_nothing(candidates: int | None) -> None:
    dataset = small_dataset(n_items=(60, 60))
    rankings = [
        rank(
            table_scorer(dataset, levels=5),
            dataset,
            every_question(dataset),
            0,
            config=EvaluationConfig(batch=batch, candidates=candidates),
        )
        for batch in (1, 17, 1000)
    ]
    for other in rankings[1:]:
        assert_equal(rankings[0], other)


def assert_equal(a: Ranking, b: Ranking) -> None:
    for name in ("position", "user", "answer", "above", "tied", "candidates", "top"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist(), name


def test_without_lists_the_places_are_the_same_and_the_scores_stay_whole() -> None:
    dataset = small_dataset(n_items=(60, 60))
    scorer = table_scorer(dataset, levels=5)
    before = [table.copy() for table in scorer.tables]
    listed, bare = (
        rank(
            scorer,
            dataset,
            every_question(dataset),
            0,
            config=EvaluationConfig(),
            lists=lists,
        )
        for lists in (True, False)
    )
    assert bare.top.shape == (len(listed), 0)
    for name in ("position", "above", "tied", "candidates"):
        assert getattr(bare, name).tolist() == getattr(listed, name).tolist(), name
    for table, kept in zip(scorer.tables, before, strict=True):
        assert (table == kept).all()


@pytest.mark.parametrize("candidates", [None, 5])
@pytest.mark.parametrize("levels", [1, 2, None])
def test_item_numbers_change_nothing(levels: int | None, candidates: int | None) -> None:
    dataset = small_dataset(n_items=(60, 60))
    other, new_to_old = renumbered(dataset, seed=3)
    scorer = table_scorer(dataset, levels=levels)
    moved = TableScorer([t[:, o] for t, o in zip(scorer.tables, new_to_old, strict=True)])
    config = EvaluationConfig(cutoffs=[10], candidates=candidates)
    a = rank(scorer, dataset, every_question(dataset), 1, config=config)
    b = rank(moved, other, every_question(other), 1, config=config)
    assert (a.above.tolist(), a.tied.tolist()) == (b.above.tolist(), b.tied.tolist())
    # The lists too, though with one level every item ties with every other.
    assert a.top.tolist() == new_to_old[1][b.top].tolist()


def test_an_item_taken_before_is_still_a_possible_answer_but_no_distractor() -> None:
    dataset = small_dataset(n_items=(5, 5))
    scorer = table_scorer(dataset)
    ranking = rank(scorer, dataset, every_question(dataset), 0, config=EvaluationConfig())
    repeat = [
        i
        for i, position in enumerate(ranking.position)
        if ranking.answer[i] in earlier_items(dataset, position, 0)
    ]
    assert repeat
    for i in repeat:
        others = earlier_items(dataset, ranking.position[i], 0) - {int(ranking.answer[i])}
        assert ranking.candidates[i] == 5 - len(others)
        assert ranking.answer[i] in ranking.top[i]


def test_seen_items_are_excluded_beyond_what_the_scorer_sees() -> None:
    dataset = small_dataset()
    scorer = table_scorer(dataset)
    config = EvaluationConfig(max_history=2)
    ranking = rank(scorer, dataset, every_question(dataset), 0, config=config)
    assert max(int(r.lengths.max()) for r in scorer.asked) == 2
    longest = int(np.argmax(ranking.position - dataset.events.offsets[ranking.user]))
    seen = earlier_items(dataset, int(ranking.position[longest]), 0)
    assert len(seen) > 2
    assert not (seen - {int(ranking.answer[longest])}) & set(ranking.top[longest].tolist())


def test_seen_items_stay_where_the_configuration_keeps_them() -> None:
    dataset = small_dataset()
    config = EvaluationConfig(exclude_seen=False)
    ranking = rank(table_scorer(dataset), dataset, every_question(dataset), 0, config=config)
    assert set(ranking.candidates.tolist()) == {30}


def test_a_hidden_target_history_is_hidden_from_the_scorer_alone() -> None:
    dataset = small_dataset()
    scorer = table_scorer(dataset)
    config = EvaluationConfig(max_history=4)
    ranking = rank(
        scorer, dataset, every_question(dataset), 0, config=config, hide_target_history=True
    )
    for requests in scorer.asked:
        assert set(requests.domain.tolist()) == {1}
        assert set(requests.user.tolist()) == {-1}
        assert requests.lengths.min() >= 1
    # The last four events elsewhere, not what is left of the last four events of all.
    lengths = np.concatenate([r.lengths for r in scorer.asked])
    elsewhere = [
        int((dataset.events.domain[dataset.events.offsets[u] : p] == 1).sum())
        for u, p in zip(ranking.user, ranking.position, strict=True)
    ]
    assert sorted(lengths.tolist()) == sorted(np.minimum(elsewhere, 4).tolist())
    for i, position in enumerate(ranking.position):
        left = earlier_items(dataset, int(position), 0) - {int(ranking.answer[i])}
        assert ranking.candidates[i] == 30 - len(left)


def test_nan_scores_are_an_error_that_names_the_scorer() -> None:
    dataset = small_dataset()
    scorer = table_scorer(dataset, name="diverged")
    scorer.tables[0][int(dataset.events.user[dataset.events.domain == 0][0]), 7] = np.nan
    with pytest.raises(RequestError, match=r"'diverged': NaN among the scores"):
        rank(scorer, dataset, every_question(dataset), 0, config=EvaluationConfig())


def test_scores_of_another_shape_are_an_error() -> None:
    dataset = small_dataset()
    scorer = table_scorer(dataset, change=lambda table: table[:, :-1])
    with pytest.raises(RequestError, match=r"\(216, 29\) for expected \(216, 30\)"):
        rank(scorer, dataset, every_question(dataset), 0, config=EvaluationConfig())


def test_what_is_not_offered_is_no_candidate_and_not_listed() -> None:
    dataset = small_dataset()

    def only_even(table: np.ndarray) -> np.ndarray:
        return np.where(np.arange(table.shape[1]) % 2 == 0, table, -np.inf).astype(np.float32)

    scorer = table_scorer(dataset, change=only_even)
    ranking = rank(
        scorer, dataset, every_question(dataset), 0, config=EvaluationConfig(exclude_seen=False)
    )
    odd = ranking.answer % 2 == 1
    assert odd.any()
    assert set(ranking.tied[odd].tolist()) == {0}
    assert set(ranking.tied[~odd].tolist()) == {1}
    assert set(ranking.candidates.tolist()) == {15}
    assert (np.sort(ranking.top, axis=1)[:, :15] == -1).all()
    assert (ranking.top % 2 == 0).sum(axis=1).tolist() == [15] * len(ranking)


def test_sampled_candidates_are_unseen_distinct_and_hide_the_answer_among_them() -> None:
    dataset = small_dataset(n_items=(60, 60))
    scorer = table_scorer(dataset)
    config = EvaluationConfig(candidates=8, batch=1)
    ranking = rank(scorer, dataset, every_question(dataset), 0, config=config)
    assert ranking.protocol == "sampled"
    assert set(ranking.candidates.tolist()) == {9}
    columns = set()
    # Questions are asked in the order of their histories' lengths.
    asked = np.argsort(ranking.position - dataset.events.offsets[ranking.user], kind="stable")
    for i, items in zip(asked, scorer.items, strict=True):
        assert items is not None
        answer = int(ranking.answer[i])
        seen = earlier_items(dataset, int(ranking.position[i]), 0)
        assert len(set(items[0].tolist())) == 9
        assert not (set(items[0].tolist()) - {answer}) & seen
        columns.add(items[0].tolist().index(answer))
    assert columns == set(range(9))


def test_sampled_candidates_are_uniform_and_follow_the_seed() -> None:
    dataset = small_dataset(n_users=400, n_items=(40, 40))
    scorer = table_scorer(dataset)
    config = EvaluationConfig(candidates=10, exclude_seen=False)
    rank(scorer, dataset, every_question(dataset), 1, config=config, seed=1)
    first = [items for items in scorer.items if items is not None]
    drawn = np.bincount(np.concatenate([i.ravel() for i in first]), minlength=40)
    answers = np.bincount(dataset.events.item[dataset.events.domain == 1], minlength=40)
    n = answers.sum()
    expected = (n - answers) * 10 / 39
    assert np.abs(drawn - answers - expected).max() < 5 * np.sqrt(expected.max())
    for seed, same in ((1, True), (2, False)):
        scorer.items.clear()
        rank(scorer, dataset, every_question(dataset), 1, config=config, seed=seed)
        again = [items for items in scorer.items if items is not None]
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True)) is same


def test_too_many_candidates_and_no_question_are_errors() -> None:
    dataset = small_dataset()
    with pytest.raises(DataError, match=r"evaluation.candidates: fewer than 29 unseen items"):
        rank(
            table_scorer(dataset),
            dataset,
            every_question(dataset),
            0,
            config=EvaluationConfig(candidates=29),
        )
    with pytest.raises(DataError, match="no question has its answer in 'domain1'"):
        rank(
            table_scorer(dataset),
            dataset,
            every_question(dataset).where(dataset.events.domain == 0),
            1,
            config=EvaluationConfig(),
        )


def test_lists_are_as_long_as_the_largest_cutoff_up_to_100() -> None:
    assert [list_length(c) for c in ([5, 20], [10, 100, 1000], [1000])] == [20, 100, 10]
