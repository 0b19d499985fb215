"""save → load gives the same recommender; what is no model folder is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recommender_world import by_group, fitted, quick_config, set_by_hand, small_world

from isthmus.blend import GateDecision, decide
from isthmus.errors import CheckpointError
from isthmus.evaluation.ranks import earlier_in
from isthmus.recommender import Recommender, storage
from isthmus.scoring import Requests
from isthmus.training.checkpoint import State, write_folder
from word_encoder import WordEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "model"
    fitted().save(path)
    return path


def test_every_scorer_comes_back_bit_for_bit(folder: Path) -> None:
    loaded = Recommender.load(folder)
    usual = fitted()
    requests = Requests.of_users(usual.dataset, np.arange(usual.dataset.n_users))
    for d in (0, 1):
        for one, other in (
            (usual.system.gated, loaded.system.gated),
            (usual.system.transferred.blend, loaded.system.transferred.blend),
            (usual.system.alone[d].blend, loaded.system.alone[d].blend),
        ):
            before, after = one.score(requests, d), other.score(requests, d)
            assert np.array_equal(before.total, after.total)
            assert all(np.array_equal(before.parts[n], after.parts[n]) for n in before.parts)


def test_everything_else_comes_back(folder: Path) -> None:
    loaded, usual = Recommender.load(folder), fitted()
    assert loaded.config == usual.config
    assert loaded.gates == usual.gates
    assert np.array_equal(loaded.split.in_train, usual.split.in_train)
    assert np.array_equal(loaded.split.test.position, usual.split.test.position)
    assert loaded.split.cut_times == usual.split.cut_times
    assert loaded.dataset.user_ids.equals(usual.dataset.user_ids)
    for mine, theirs in zip(loaded.raw, usual.raw, strict=True):
        assert np.array_equal(mine.vectors, theirs.vectors)
        assert np.array_equal(mine.present, theirs.present)
    side, before = loaded.system.transferred, usual.system.transferred
    assert np.array_equal(side.fitted[1].gain, before.fitted[1].gain)
    assert side.fitted[1].weights == before.fitted[1].weights
    assert side.logs == before.logs
    users = ["nobody", *usual.dataset.user_ids[:20]]
    again = loaded.recommend("gear", users=users, histories=[[("books", "b00001")]])
    assert again.equals(usual.recommend("gear", users=users, histories=[[("books", "b00001")]]))
    assert loaded.similar("gear", "g00001").equals(usual.similar("gear", "g00001"))
    assert loaded.profile(users[3]) == usual.profile(users[3])


def test_whether_vectors_are_whitened_already_comes_back() -> None:
    for whitened in (False, True):
        features = replace(fitted().raw[0], whitened=whitened)
        again = storage._features(storage._features_state(features))
        assert again.whitened is whitened


def test_the_place_in_an_event_log_comes_back(folder: Path, tmp_path: Path) -> None:
    assert Recommender.load(folder).log is None
    model = Recommender.load(folder)
    model.log = storage.LogPosition("a-log", 42)
    model.save(tmp_path / "model")
    assert Recommender.load(tmp_path / "model").log == storage.LogPosition("a-log", 42)


def test_groups_and_what_they_were_judged_by_come_back(tmp_path: Path) -> None:
    usual = fitted()
    fine = usual.config.blend.model_copy(update={"slice_users": 10})
    sides = (usual.system.transferred.fitted[1], usual.system.alone[1].fitted[1])
    decision = decide(*sides, fine, target="gear")
    assert {part.shrunk is None for part in decision.slices} == {True, False}
    system = replace(usual.system, gates={**usual.system.gates, 1: decision})
    model = Recommender(usual.dataset, usual.config, usual.split, usual.raw, system)
    model.save(tmp_path / "model")
    loaded = Recommender.load(tmp_path / "model")
    assert loaded.gates == model.gates
    again = (loaded.system.transferred.fitted[1], loaded.system.alone[1].fitted[1])
    assert decide(*again, fine, target="gear") == decision


def test_a_folder_with_one_weight_for_all_still_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def before_groups(gate: object) -> dict[str, object]:
        return {"weight": 0.25, "confidence": 0.84, "relative": [0.1, -0.1, 0.3], "reason": "so"}

    monkeypatch.setattr(storage, "asdict", before_groups)
    monkeypatch.setattr(storage, "_VALIDATION", {"gain": np.float64, "user": np.int64})
    fitted().save(tmp_path / "model")
    monkeypatch.undo()
    loaded = Recommender.load(tmp_path / "model")
    old = GateDecision(0.25, 0.84, (0.1, -0.1, 0.3), "so")
    assert loaded.gates == {"books": old, "gear": old}
    assert not len(loaded.system.alone[1].fitted[1].own)
    assert len(loaded.recommend("gear", users=["nobody"], k=3)) == 3
    loaded.save(tmp_path / "again")
    assert Recommender.load(tmp_path / "again").gates == loaded.gates


def test_a_gate_open_to_some_is_evaluated_as_it_serves() -> None:
    mixed = set_by_hand(gate=by_group(newcomers=1.0, others=0.0))
    found = mixed.evaluate(domains=["gear"])["gear"]
    gated, all_, alone = (found[n] for n in ("gated", "transferred", "target-only"))
    cold = gated.slices["cold users"]
    own = earlier_in(mixed.dataset.events, gated.position, 1)
    by_all = cold | (own == 0)
    for expected, rows in ((all_, by_all), (alone, ~by_all)):
        assert np.allclose(
            gated.values["ndcg@10"][rows], expected.values["ndcg@10"][rows], atol=1e-6
        )
    assert by_all.any()
    assert not np.allclose(gated.values["ndcg@10"], alone.values["ndcg@10"])


def test_evaluation_after_loading_gives_the_same_figures(folder: Path) -> None:
    before, after = fitted().evaluate(), Recommender.load(folder).evaluate()
    assert set(before) == {"books", "gear"}
    for domain, by_system in before.items():
        assert list(by_system) == ["gated", "transferred", "target-only"]
        for system, found in by_system.items():
            again = after[domain][system]
            assert found.system == system
            for metric, values in found.values.items():
                assert np.array_equal(values, again.values[metric])


def test_the_gated_figures_are_those_of_asking_the_gated_scorer() -> None:
    usual = fitted()
    asked = usual.evaluate(systems={"mine": usual.system.gated})
    for domain, by_system in usual.evaluate().items():
        for metric, values in by_system["gated"].values.items():
            assert np.allclose(values, asked[domain]["mine"].values[metric])


def test_a_loaded_model_can_be_saved_over_itself(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "again"
    fitted().save(path)
    loaded = Recommender.load(path)
    loaded.save(path)
    loaded.save(path)
    twice = Recommender.load(path)
    users = fitted().dataset.user_ids[:5].to_list()
    assert twice.recommend("gear", users=users).equals(fitted().recommend("gear", users=users))


def test_no_model_folder_is_refused_with_a_plain_message(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        Recommender.load(tmp_path / "missing")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "pytorch_model.bin").write_bytes(b"weights")
    with pytest.raises(CheckpointError):
        Recommender.load(foreign)
    write_folder(tmp_path / "training", {"a": State()}, kind="training")
    with pytest.raises(CheckpointError, match="holds a training, not a model"):
        Recommender.load(tmp_path / "training")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fitted().save(path)
    victim = next(path.rglob("items-1.parquet"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        Recommender.load(path)


def test_a_fit_that_is_called_again_goes_on_from_its_folder(tmp_path: Path) -> None:
    dataset = small_world(60)
    config = quick_config(training={"epochs": 2, "evaluate_every": 1, "checkpoint_seconds": 0})
    one = Recommender.fit(dataset, config, encoder=WordEncoder(), folder=tmp_path)
    assert (tmp_path / "checkpoints").is_dir()
    two = Recommender.fit(dataset, config, encoder=WordEncoder(), folder=tmp_path)
    users = dataset.user_ids[:10].to_list()
    assert one.recommend("gear", users=users).equals(two.recommend("gear", users=users))
    # The epochs of the second were read back, their seconds with them.
    assert one.system.transferred.logs == two.system.transferred.logs
