"""What `recommend` offers, in which order, to whom, and what it says of that."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommender_world import by_group, fitted, quick_config, set_by_hand

from isthmus.errors import RequestError
from isthmus.recommender import Recommender
from isthmus.recommender.ranking import best_columns
from isthmus.scoring import Requests

COLUMNS = [
    "request",
    "rank",
    "item_id",
    "title",
    "category",
    "score",
    "parts",
    "basis",
    "why",
]


def _users(recommender: Recommender, n: int = 40) -> list[str]:
    """Some users with a history."""
    counts = np.diff(recommender.dataset.events.offsets)
    return recommender.dataset.user_ids.gather(np.flatnonzero(counts > 3)[:n]).to_list()


def _histories(recommender: Recommender) -> dict[str, list[tuple[str, str]]]:
    """Every user's events as (domain, item id), oldest first."""
    dataset, events = recommender.dataset, recommender.dataset.events
    found: dict[str, list[tuple[str, str]]] = {u: [] for u in dataset.user_ids}
    for user, d, item in zip(events.user, events.domain, events.item, strict=True):
        domain = dataset.domains[int(d)]
        found[dataset.user_ids[int(user)]].append((domain.name, domain.items["item_id"][int(item)]))
    return found


def _of_kind(recommender: Recommender, *domains: str) -> str:
    """A user whose events lie in exactly these domains."""
    for user, history in _histories(recommender).items():
        if {name for name, _ in history} == set(domains):
            return user
    raise AssertionError("the world has no such user")


def test_the_table_has_its_columns_ranks_and_falling_scores() -> None:
    users = _users(fitted(), 5)
    answers = fitted().recommend("gear", users=users, k=7)
    assert answers.columns == COLUMNS
    assert answers["request"].to_list() == [u for u in users for _ in range(7)]
    assert answers["rank"].to_list() == list(range(1, 8)) * 5
    for _, rows in answers.group_by("request"):
        assert rows["score"].is_sorted(descending=True)


def test_the_best_items_are_those_of_the_served_scorer_without_the_seen() -> None:
    recommender = fitted()
    users = _users(recommender)
    dataset = recommender.dataset
    answers = recommender.recommend("gear", users=users, k=5)
    ids = dataset.domains[1].items["item_id"].to_list()
    for user in users:
        row = dataset.user_index[user]
        requests = Requests.of_users(dataset, np.array([row]))
        total = recommender.system.gated.score(requests, 1).total[0].copy()
        total[requests.item[requests.domain == 1]] = -np.inf
        expected = [ids[i] for i in np.argsort(-total)[:5]]
        assert answers.filter(pl.col("request") == user)["item_id"].to_list() == expected


def test_parts_add_up_to_the_score_and_are_relative_to_the_average_item() -> None:
    recommender = fitted()
    user = _of_kind(recommender, "books", "gear")
    everything = recommender.recommend("gear", users=[user], k=1000, seen=True)
    assert len(everything) == recommender.dataset.domains[1].n_items
    parts = everything["parts"].struct.unnest()
    assert set(parts.columns) == {"neural", "co-occurrence", "text", "recent-popular"}
    assert np.allclose(parts.to_numpy().sum(1), everything["score"].to_numpy(), atol=1e-5)
    assert np.allclose(parts.to_numpy().mean(0), 0, atol=1e-5)


def test_seen_items_of_the_whole_history_are_left_out_unless_asked_for() -> None:
    usual = fitted()
    # Scorers read two events only; what is older must not come back as new.
    config = quick_config(evaluation={"max_history": 2})
    recommender = Recommender(usual.dataset, config, usual.split, usual.raw, usual.system)
    histories = _histories(recommender)
    user = max(histories, key=lambda u: sum(d == "gear" for d, _ in histories[u]))
    seen = {item for d, item in histories[user] if d == "gear"}
    assert len(seen) > 3
    offered = set(recommender.recommend("gear", users=[user], k=1000)["item_id"])
    assert not offered & seen
    again = set(recommender.recommend("gear", users=[user], k=1000, seen=True)["item_id"])
    assert again == offered | seen


def test_a_shorter_list_is_the_beginning_of_a_longer_one() -> None:
    users = [*_users(fitted(), 10), "nobody"]
    long = fitted().recommend("gear", users=users, k=20).filter(pl.col("rank") <= 1)
    short = fitted().recommend("gear", users=users, k=1)
    assert short["item_id"].to_list() == long["item_id"].to_list()


def test_answers_do_not_depend_on_how_many_are_asked_at_once() -> None:
    usual = fitted()
    config = quick_config(evaluation={"batch": 3})
    chunked = Recommender(usual.dataset, config, usual.split, usual.raw, usual.system)
    users = [*_users(usual, 10), "nobody"]
    one, other = (r.recommend("gear", users=users, k=4) for r in (usual, chunked))
    assert one["request"].to_list() == other["request"].to_list()
    assert np.allclose(one["score"], other["score"], atol=1e-5)
    assert (one["item_id"] == other["item_id"]).mean() > 0.95  # but for near-equal scores
    assert one["basis"].to_list() == other["basis"].to_list()


def test_a_history_given_on_the_spot_counts_like_a_users_own() -> None:
    recommender = set_by_hand(gate=1.0)
    user = _of_kind(recommender, "books", "gear")
    history = _histories(recommender)[user]
    untimed = recommender.recommend("gear", histories=[history], k=5)
    assert untimed["request"].unique().to_list() == ["history 1"]
    assert untimed["basis"][0] == "given history in gear and books"
    seen = {item for d, item in history if d == "gear"}
    assert not seen & set(untimed["item_id"])
    # Of the four parts only the neural one knows times.
    own = recommender.recommend("gear", users=[user], k=1000).sort("item_id")
    given_ = recommender.recommend("gear", histories=[history], k=1000).sort("item_id")
    for name in ("co-occurrence", "text", "recent-popular"):
        a, b = (frame["parts"].struct.field(name).to_numpy() for frame in (own, given_))
        assert np.allclose(a, b, atol=1e-5)


def test_a_stranger_is_a_person_without_a_history_and_called_so() -> None:
    recommender = set_by_hand(gate=0.5)
    answers = recommender.recommend("gear", users=["nobody"], histories=[[]], k=5)
    stranger = answers.filter(pl.col("request") == "nobody")
    nothing = answers.filter(pl.col("request") == "history 1")
    assert stranger["item_id"].to_list() == nothing["item_id"].to_list()
    assert stranger["basis"][0] == "unknown user, no history: what is popular now"
    assert nothing["basis"][0] == "no history: what is popular now"
    assert set(answers["why"]) == {"popular now"}


def test_known_users_strangers_and_histories_keep_their_order() -> None:
    user = _users(fitted(), 1)[0]
    asked = ["nobody", user, "noone"]
    answers = fitted().recommend("gear", users=asked, histories=[[("books", "b00001")]], k=1)
    assert answers["request"].to_list() == [*asked, "history 1"]
    alone = fitted().recommend("gear", users=[user], k=1)
    assert answers["item_id"][1] == alone["item_id"][0]
    assert answers["basis"].str.starts_with("unknown user").to_list() == [True, False, True, False]


def test_the_basis_names_the_domains_that_were_read() -> None:
    open_gate = set_by_hand(gate=1.0)
    both, books, gear = (
        _of_kind(open_gate, *domains) for domains in (("books", "gear"), ("books",), ("gear",))
    )
    answers = open_gate.recommend("gear", users=[both, books, gear], k=1)
    assert answers["basis"].to_list() == [
        "own history in gear and books",
        "history in books only: new to gear",
        "own history in gear",
    ]


def test_a_shut_gate_is_not_passed_over_in_silence() -> None:
    shut = set_by_hand(gate=0.0)
    both, books = _of_kind(shut, "books", "gear"), _of_kind(shut, "books")
    answers = shut.recommend("gear", users=[both, books, "nobody"], k=3)
    assert answers["basis"].unique(maintain_order=True).to_list() == [
        "own history in gear; books kept out by the gate",
        "history in books only, kept out of gear by the gate: what is popular now",
        "unknown user, no history: what is popular now",
    ]
    lists = [f["item_id"].to_list() for _, f in answers.group_by("request", maintain_order=True)]
    assert lists[1] == lists[2]
    assert not answers["why"].str.contains("from books").any()


def test_people_of_one_batch_are_served_by_the_side_that_the_gate_gives_them() -> None:
    mixed = set_by_hand(gate=by_group(newcomers=1.0, others=0.0))
    both, books, gear = (
        _of_kind(mixed, *domains) for domains in (("books", "gear"), ("books",), ("gear",))
    )
    users = [both, books, gear, "nobody", both]
    answers = mixed.recommend("gear", users=users, k=5)
    sides = {1.0: set_by_hand(gate=1.0), 0.0: set_by_hand(gate=0.0)}
    for row, (user, weight) in enumerate(zip(users, (0.0, 1.0, 0.0, 1.0, 0.0), strict=True)):
        mine = answers[5 * row : 5 * row + 5]
        expected = sides[weight].recommend("gear", users=[user], k=5)
        for column in ("request", "item_id", "basis", "why"):
            assert mine[column].to_list() == expected[column].to_list()
        assert np.allclose(mine["score"], expected["score"], atol=1e-5)
    assert answers["basis"].unique(maintain_order=True).to_list() == [
        "own history in gear; books kept out by the gate",
        "history in books only: new to gear",
        "own history in gear",
        "unknown user, no history: what is popular now",
    ]
    assert answers.filter(pl.col("request") == books)["why"].str.contains("from books").any()


def test_filters_by_category_allow_and_deny() -> None:
    user = _users(fitted(), 1)
    coffee = fitted().recommend("gear", users=user, k=1000, seen=True, category="coffee")
    items = fitted().dataset.domains[1].items
    expected = items.filter(pl.col("category").str.contains("Coffee"))["item_id"]
    assert set(coffee["item_id"]) == set(expected)
    assert len(expected) > 2
    some = expected.to_list()
    allowed = fitted().recommend("gear", users=user, k=1000, seen=True, allow=some[:2])
    assert set(allowed["item_id"]) == set(some[:2])
    denied = fitted().recommend(
        "gear", users=user, k=1000, seen=True, category="Coffee", deny=[some[0], "long gone"]
    )
    assert set(denied["item_id"]) == set(some[1:])
    whole = fitted().recommend("gear", users=user, k=1000, seen=True)
    best_coffee = whole.filter(pl.col("item_id").is_in(some))["item_id"].to_list()
    assert coffee["item_id"].to_list() == best_coffee


def test_filters_that_leave_nothing_say_which() -> None:
    user = _users(fitted(), 1)
    with pytest.raises(RequestError, match=r"category 'cofee' leaves no item.*Did you mean 'Coff"):
        fitted().recommend("gear", users=user, category="cofee")
    with pytest.raises(RequestError, match="the allow list leaves no item"):
        fitted().recommend("gear", users=user, allow=[])
    with pytest.raises(RequestError, match="allow list and the deny list leave no item"):
        fitted().recommend("gear", users=user, allow=["g00001"], deny=["g00001"])
    with pytest.raises(RequestError, match=r"'g0001' is not in .*Did you mean 'g0"):
        fitted().recommend("gear", users=user, allow=["g0001"])


def test_who_has_seen_everything_gets_nothing_and_everybody_else_gets_theirs() -> None:
    has = [("gear", "g00001")]
    with pytest.raises(RequestError, match="in the history already"):
        fitted().recommend("gear", histories=[has], allow=["g00001"])
    answers = fitted().recommend("gear", histories=[has, []], allow=["g00001"])
    assert answers["request"].to_list() == ["history 2"]


def test_fewer_than_k_is_said() -> None:
    answers = fitted().recommend("gear", users=["nobody"], k=3, allow=["g00001", "g00002"])
    assert len(answers) == 2
    assert answers["basis"][0].endswith("; only 2 could be offered")
    n_items = fitted().dataset.domains[1].n_items
    whole = fitted().recommend("gear", users=["nobody"], k=n_items + 1)
    assert whole["basis"][0].endswith(f"; only {n_items} could be offered")
    exact = fitted().recommend("gear", users=["nobody"], k=n_items)
    assert "could be offered" not in exact["basis"][0]


def test_a_question_in_the_past_knows_nothing_of_what_came_later() -> None:
    recommender = fitted()
    dataset = recommender.dataset
    user = _of_kind(recommender, "books", "gear")
    start, stop = dataset.events.offsets[dataset.user_index[user] :][:2]
    cut = int(start + stop) // 2
    moment = float(dataset.events.time[cut])
    later = [
        dataset.domains[1].items["item_id"][int(i)]
        for i, d, t in zip(
            dataset.events.item[start:stop],
            dataset.events.domain[start:stop],
            dataset.events.time[start:stop],
            strict=True,
        )
        if d == 1 and t > moment
    ]
    assert later
    then = recommender.recommend("gear", users=[user], k=1000, query_time=moment)
    assert set(later) <= set(then["item_id"])
    before_all = recommender.recommend("gear", users=[user], query_time=0.0)
    assert before_all["basis"][0].startswith("no history")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"domain": "geer", "users": ["u"]}, r"'geer' is not in.*Did you mean 'gear'"),
        ({"domain": "gear"}, "nobody to recommend to"),
        ({"domain": "gear", "users": "u00001"}, r"Give a list: \['u00001'\]"),
        ({"domain": "gear", "users": ["u"], "k": 0}, "k is 0"),
        (
            {"domain": "gear", "histories": [[], [("books", "b00001"), ("boks", "b00001")]]},
            r"history 2, entry 2: domain 'boks'.*Did you mean 'books'",
        ),
        (
            {"domain": "gear", "histories": [[("books", "b0001")]]},
            r"history 1, entry 1: item 'b0001'.*Did you mean 'b0",
        ),
        ({"domain": "gear", "histories": [["b00001"]]}, r"no \(domain, item id\) pair"),
    ],
)
def test_bad_questions_are_answered_with_what_to_do(asked: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        fitted().recommend(**asked)  # type: ignore[arg-type]


def test_asking_about_nobody_gives_an_empty_table() -> None:
    answers = fitted().recommend("gear", users=[])
    assert answers.is_empty()
    assert answers.columns == COLUMNS


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(
        st.sampled_from([-np.inf, -2.5, -0.0, 0.0, 1e-30, -1e-30, 3.0, 7e8]), min_size=1, max_size=9
    ),
    k=st.integers(1, 12),
    seed=st.integers(0, 99),
)
def test_best_columns_are_a_sort_by_value_then_by_rank_of_equals(
    values: list[float], k: int, seed: int
) -> None:
    total = np.array([values], np.float32)
    rank = np.random.default_rng(seed).permutation(len(values))
    order = [c for c in np.lexsort((rank, -total[0])) if total[0, c] > -np.inf][:k]
    expected = order + [-1] * (k - len(order))
    assert best_columns(total, k, rank)[0].tolist() == expected
