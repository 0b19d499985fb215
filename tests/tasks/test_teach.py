"""Heads that learn ratings and classes on a fitted recommender."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tasks_world import fresh, once, task_config

from isthmus.config import CrossEncoderConfig
from isthmus.data.world import DomainSpec, WorldConfig, generate_world
from isthmus.errors import ConfigError, DataError, RequestError, TrainingError
from isthmus.recommender import Recommender
from isthmus.tasks.examples import Role, against_drawn, rated_events
from isthmus.tasks.reader import Reader
from isthmus.tasks.teach import HeadTask, labelled, teach
from isthmus.training.checkpoint import read_folder
from word_encoder import WordEncoder

ITEMS = ["g00000", "g00001", "g00002"]


def lists(recommender: Recommender) -> np.ndarray:
    return recommender.recommend("gear", users=list(recommender.dataset.user_ids[:5]))[
        "score"
    ].to_numpy()


@pytest.mark.parametrize("head", ["squared", "ordinal"])
def test_ratings_are_told_better_than_by_the_mean(head: str) -> None:
    recommender = fresh()
    before = lists(recommender)
    recommender.teach("rate", config=task_config(tasks={"rate": {"head": head}, "batch": 64}))
    found = recommender.judge("rate").by_domain
    examples = rated_events(recommender.dataset, recommender.split)
    truth = examples.of(Role.TEST).label
    mean = examples.of(Role.TRAIN).label.mean()
    assert set(found) == {"books", "gear", "all"}
    assert found["all"]["rmse"] < 0.97 * np.sqrt(np.mean((truth - mean) ** 2))
    assert found["all"]["mae"] < found["all"]["rmse"]
    assert np.array_equal(lists(recommender), before)


def test_clicks_are_told_better_than_by_chance(caplog: pytest.LogCaptureFixture) -> None:
    recommender = fresh()
    recommender.teach("click")
    found = recommender.judge("click")
    assert caplog.text.count("pairs judge nothing, for they lie before the end of training") == 1
    assert found.by_domain["all"]["auc"] > 0.55
    assert found.by_domain["all"]["calibration_error"] < 0.12
    assert [line.name for line in found.report] == ["0", "1", "macro", "weighted"]
    assert sum(b.n for b in found.calibration) == found.by_domain["all"]["n"]


def test_events_against_drawn_items() -> None:
    recommender = fresh(impressions=False)
    settings = {"hidden": 8, "click": {"negatives": 2}}
    recommender.teach("click", config=task_config(tasks=settings))
    # Popularity is no help here, and what else a small world tells is little.
    assert recommender.judge("click").by_domain["all"]["auc"] > 0.53


def test_a_pair_without_a_time_is_asked_about_at_the_end_of_training() -> None:
    usual = once()
    reader = Reader("click", usual.dataset, usual.split, usual.system, usual.config)
    (cut, _) = usual.split.cut_times
    examples = against_drawn(usual.dataset, usual.split, negatives=1, seed=0)
    timeless = replace(examples, time=np.full(len(examples), np.nan))
    np.testing.assert_array_equal(reader._requests(timeless).query_time, cut)
    np.testing.assert_array_equal(reader._requests(examples).query_time, examples.time)


def test_the_joint_loss_is_the_sum_of_the_two_domains_means() -> None:
    recommender = once()
    reader = Reader(
        "rate", recommender.dataset, recommender.split, recommender.system, recommender.config
    )
    examples = rated_events(recommender.dataset, recommender.split)
    taught = teach(reader, examples, task_config(tasks={"epochs": 1}))
    train = examples.of(Role.TRAIN)
    pairs = {d: labelled(reader, train.take(train.domain == d), in_training=True) for d in (0, 1)}
    rng = np.random.default_rng(0)

    def loss(*domains: int) -> float:
        chosen = {d: pairs[d] for d in domains}
        task = whole_batch(HeadTask(taught.net.double(), doubled(chosen), 1, {}))
        (batch,) = task.batches(rng)
        return task.loss(batch, rng).item()

    means = []
    for d in (0, 1):
        told = taught.net.double()(*vars(doubled(pairs)[d].inputs).values(), d)[:, 0]
        means.append(((told - pairs[d].labels) ** 2).mean().item())
    assert loss(0, 1) == pytest.approx(loss(0) + loss(1), abs=1e-6)
    assert loss(0, 1) == pytest.approx(sum(means), abs=1e-6)
    assert len(pairs[0].labels) != len(pairs[1].labels)


def whole_batch(task: HeadTask) -> HeadTask:
    task.batch = len(task.domain)
    return task


def doubled(pairs: dict) -> dict:
    """In double precision, so that the order of adding does not matter to 1e-6."""
    from isthmus.tasks.reader import Inputs
    from isthmus.tasks.teach import Labelled

    return {
        d: Labelled(Inputs(*(t.double() for t in vars(p.inputs).values())), p.labels.double())
        for d, p in pairs.items()
    }


def counted(patch: pytest.MonkeyPatch, most: int | None = None) -> list[int]:
    """One entry per step that heads learn by from now on; more than `most` end the run."""
    real, steps = HeadTask.loss, []

    def loss(self: HeadTask, *given: object) -> torch.Tensor:
        if most is not None and len(steps) == most:
            raise Killed
        steps.append(1)
        return real(self, *given)  # type: ignore[arg-type]

    patch.setattr(HeadTask, "loss", loss)
    return steps


class Killed(Exception):
    pass


def test_a_killed_teaching_goes_on_to_the_same_heads(tmp_path: Path) -> None:
    config = once().config.override("training.checkpoint_seconds=0")
    with pytest.MonkeyPatch.context() as patch:
        all_steps = counted(patch)
        whole = fresh().teach("rate", config=config)
    epoch = len(all_steps) // len(whole.log.epochs)
    recommender = fresh()
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, 2 * epoch + 3)
        with pytest.raises(Killed):
            recommender.teach("rate", config=config, folder=tmp_path)
    assert read_folder(tmp_path / "checkpoints" / "rate", kind="training").meta["step"] == 2 * epoch
    with pytest.MonkeyPatch.context() as patch:
        left = counted(patch)
        resumed = recommender.teach("rate", config=config, folder=tmp_path)
    assert len(left) == len(all_steps) - 2 * epoch
    for name, weight in whole.net.state_dict().items():
        assert torch.equal(weight, resumed.net.state_dict()[name])


@pytest.mark.parametrize(
    "change",
    [
        ("training.domain_weights.gear=0",),
        ("seed=3",),
        ("training.warmup=0.9", "tasks.epochs=1"),
    ],
)
def test_what_is_given_to_teaching_counts_there(change: tuple[str, ...], tmp_path: Path) -> None:
    quick = "tasks.epochs=1"
    recommender = fresh()
    usual = recommender.config.override(quick)
    given = recommender.config.override(quick, *change)
    # A checkpoint of other settings is not gone on with.
    before = recommender.teach("rate", config=usual, folder=tmp_path).net.state_dict()
    after = recommender.teach("rate", config=given, folder=tmp_path).net.state_dict()
    assert any(not torch.equal(weight, after[name]) for name, weight in before.items())
    assert recommender.config.seed == once().config.seed
    assert recommender.config.tasks == given.tasks


def test_model_device_and_trackers_are_those_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recommender, seen = fresh(), {}

    def fit(*_given: object, **settings: object) -> object:
        seen.update(settings)
        return SimpleNamespace(config=CrossEncoderConfig(weigh=0))

    monkeypatch.setattr("isthmus.tasks.texts.CrossEncoder.fit", fit)
    given = recommender.config.override(
        "training.device=cpu", "training.domain_weights.books=2", "language.model=other", "seed=5"
    )
    recommender.teach_language("rate", config=given)
    assert seen["training"].device == "cpu"
    assert seen["weights"] == {0: 2.0, 1: 1.0}
    assert (seen["base"], seen["seed"]) == ("other", 5)
    assert recommender.config.language.model == once().config.language.model
    none = recommender.config.override("tracking.tools=[]", "tasks.epochs=1")
    recommender.teach("rate", config=none, folder=tmp_path)
    assert not (tmp_path / "curves").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training.epochs=9", r"training\.epochs: has no say .*Set tasks\.epochs"),
        ("model.dim=32", r"model\.dim: has no say .*training\.domain_weights.*'isthmus fit'"),
        ("training.device=cpu", r"training\.device: has no say"),
    ],
)
def test_settings_without_a_say_are_refused(change: str, said: str) -> None:
    recommender = fresh()
    with pytest.raises(ConfigError, match=said):
        recommender.teach("rate", config=recommender.config.override(change))
    assert not recommender.taught


def test_a_saved_model_tells_the_same(tmp_path: Path) -> None:
    recommender = fresh()
    recommender.teach("rate")
    recommender.teach("click")
    recommender.save(tmp_path / "model")
    again = Recommender.load(tmp_path / "model")
    people = {"users": [recommender.dataset.user_ids[0], "nobody"]}
    for task in ("rate", "click"):
        first, second = (getattr(r, task)("gear", ITEMS, **people) for r in (recommender, again))
        assert first.equals(second)
        assert recommender.judge(task).to_dict() == again.judge(task).to_dict()


def test_everybody_is_answered() -> None:
    recommender = fresh()
    recommender.teach("rate")
    history = [("books", "b00000"), ("books", "b00001")]
    user = recommender.dataset.user_ids[0]
    found = recommender.rate("gear", ITEMS, users=["nobody", user], histories=[history])
    assert found["request"].to_list() == [
        *["nobody"] * 3,
        *[user] * 3,
        *["history 1"] * 3,
    ]
    assert found["item_id"].to_list() == ITEMS * 3
    assert found["rating"].is_between(1, 5).all()
    alone = recommender.rate("gear", ITEMS[1:2], users=[user])
    assert alone["rating"][0] == pytest.approx(found["rating"][4], abs=1e-5)


def test_somebody_who_rates_high_is_told_to_rate_high() -> None:
    recommender = fresh()
    recommender.teach("rate", config=task_config(tasks={"batch": 64, "epochs": 10}))
    events = recommender.dataset.events
    rated = np.where(np.isnan(events.rating), 3, events.rating)
    sums = np.add.reduceat(rated - rated.mean(), events.offsets[:-1])
    order = np.argsort(sums)
    low, high = (
        recommender.rate("gear", ITEMS, users=recommender.dataset.user_ids.gather(some).to_list())[
            "rating"
        ].mean()
        for some in (order[:10], order[-10:])
    )
    assert high > low + 0.2


def test_a_task_that_was_not_taught() -> None:
    with pytest.raises(RequestError, match=r"was not taught to rate\. It only ranks; teach it"):
        once().rate("gear", ITEMS, users=["nobody"])
    with pytest.raises(RequestError, match="no task is called 'ratings'"):
        once().teach("ratings")
    recommender = fresh()
    recommender.teach("rate")
    with pytest.raises(RequestError, match=r"was not taught to click\. It knows rate"):
        recommender.click("gear", ITEMS, users=["nobody"])


def test_questions_that_cannot_be_answered() -> None:
    recommender = fresh()
    recommender.teach("rate")
    with pytest.raises(RequestError, match="no item is asked about"):
        recommender.rate("gear", [], users=["nobody"])
    with pytest.raises(RequestError, match="nobody is asked about"):
        recommender.rate("gear", ITEMS, users=[])
    with pytest.raises(RequestError, match="'g0000' is not in the catalogue of 'gear'"):
        recommender.rate("gear", ["g0000"], users=["nobody"])
    with pytest.raises(RequestError, match="domain 'gears' is not in this dataset"):
        recommender.rate("gears", ITEMS, users=["nobody"])


def test_a_domain_without_ratings_is_not_told_about() -> None:
    usual = once()
    rating = np.where(usual.dataset.events.domain == 1, np.nan, usual.dataset.events.rating)
    dataset = replace(usual.dataset, events=replace(usual.dataset.events, rating=rating))
    recommender = Recommender(dataset, usual.config, usual.split, usual.raw, usual.system)
    recommender.teach("rate")
    assert set(recommender.judge("rate").by_domain) == {"books", "all"}
    with pytest.raises(RequestError, match="'rate' was not learnt in 'gear'"):
        recommender.rate("gear", ITEMS, users=["nobody"])


def test_ratings_of_a_domain_that_joined_later_teach_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    films = DomainSpec(name="films", n_items=40)
    frames = generate_world(WorldConfig(n_users=300, n_themes=6, domains=(films,))).frames["films"]
    recommender = once().add_domain("films", frames, encoder=WordEncoder())
    pairs = rated_events(recommender.dataset, recommender.split)
    n_later = int((pairs.domain == 2).sum())
    assert n_later
    recommender.teach("rate")
    assert f"{n_later:,} pairs teach nothing, for films joined after the model" in caplog.text
    assert set(recommender.judge("rate").by_domain) == {"books", "gear", "all"}
    item = recommender.dataset.domains[2].items["item_id"][0]
    with pytest.raises(RequestError, match=r"'films', which joined after .* 'isthmus fit'"):
        recommender.rate("films", [item], users=["nobody"])
    split = recommender.split
    train = split.in_train & (recommender.dataset.events.domain == 2)
    alone = Recommender(
        recommender.dataset,
        recommender.config,
        replace(split, in_train=train),
        recommender.raw,
        recommender.system,
    )
    with pytest.raises(DataError, match="every pair to learn from is of films, which joined"):
        alone.teach("rate")


def test_ratings_stay_within_what_occurs_in_their_own_domain() -> None:
    usual = once()
    events = usual.dataset.events
    rating = np.where(events.domain == 1, 10 * events.rating, events.rating)
    dataset = replace(usual.dataset, events=replace(events, rating=rating))
    recommender = Recommender(dataset, usual.config, usual.split, usual.raw, usual.system)
    taught = recommender.teach("rate")
    for d in (0, 1):
        own = rating[usual.split.in_train & (events.domain == d)]
        assert taught.offered[d]["levels"] == np.unique(own[~np.isnan(own)]).tolist()


def test_other_pairs_to_stop_by_are_another_teaching(tmp_path: Path) -> None:
    usual = once()
    reader = Reader("rate", usual.dataset, usual.split, usual.system, usual.config)
    examples = rated_events(usual.dataset, usual.split)
    judging = np.flatnonzero(examples.role == Role.VALIDATION)
    few = examples.take(np.setdiff1d(np.arange(len(examples)), judging[::2]))
    first = teach(reader, examples, usual.config, folder=tmp_path)
    told = [
        [epoch["validation"] for epoch in teach(reader, few, usual.config, folder=f).log.epochs]
        for f in (tmp_path, None)
    ]
    assert told[0] == told[1] != [epoch["validation"] for epoch in first.log.epochs]


def test_out_of_memory_names_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_given: object) -> torch.Tensor:
        return torch.empty(1 << 60)

    monkeypatch.setattr(HeadTask, "loss", greedy)
    with pytest.raises(TrainingError, match=r"memory ran out\. Lower .*tasks\.batch"):
        fresh().teach("rate")


def test_ratings_missing_is_said_before_anything_is_trained() -> None:
    usual = once()
    events = replace(usual.dataset.events, rating=np.full_like(usual.dataset.events.rating, np.nan))
    recommender = Recommender(
        replace(usual.dataset, events=events), usual.config, usual.split, usual.raw, usual.system
    )
    with pytest.raises(DataError, match="no event has a rating"):
        recommender.teach("rate")


def test_settings_of_a_teaching_that_failed_are_not_kept() -> None:
    recommender = fresh()
    before = recommender.config.tasks
    with pytest.raises(DataError):
        recommender.teach(
            "click",
            config=recommender.config.override(
                "tasks.epochs=77", "tasks.click.examples=nowhere.csv"
            ),
        )
    assert recommender.config.tasks == before
