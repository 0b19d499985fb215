"""What cannot be done is said before a text is encoded or anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pytest
from transfer_world import BOOKS, GEAR, settings, texts, world

from isthmus.alignment.domains import align_features
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import global_cut
from isthmus.errors import ConfigError, DataError
from isthmus.recommender import Recommender
from isthmus.training.loop import _Run
from isthmus.transfer.execution import run_stages
from isthmus.transfer.stages import PseudoLabel, Stage, Train
from isthmus.transfer.strategies import Roles

EVERYTHING, EVEN = (BOOKS, GEAR), (1.0, 1.0)
PEOPLE = "alignment.user_representations={infonce=1.0}"
ITEMS = "alignment.representations={infonce=1.0}"


class NoEncoder:
    """An encoder that must not be called."""

    def encode(self, texts: Sequence[str | None]) -> ItemFeatures:
        raise AssertionError("a text was encoded")


@dataclass(frozen=True)
class LabelsFirst:
    """Labels by a model that nothing has trained: its only teacher is one of its own width."""

    name: str = "labels-first"

    def stages(self, roles: Roles) -> list[Stage]:
        return [
            Train("teacher", roles.everything, roles.weights, share=0.5, width=2.0),
            PseudoLabel("labels", (GEAR,)),
            Train("last", roles.everything, roles.weights, share=0.5),
        ]


@pytest.fixture(scope="module")
def small() -> Dataset:
    return world(1.0, n_users=150)


def refused(dataset: Dataset, *overrides: str, targets: Sequence[str] | None = None) -> str:
    with pytest.raises((ConfigError, DataError)) as caught:
        Recommender.fit(dataset, settings(*overrides), targets=targets, encoder=NoEncoder())
    return str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["transfer.strategy=zero-shot"], "needs to know the one domain it is for"),
        (["transfer.strategy=meta", "training.epochs=1"], "1 for 2 stages that train"),
        (["transfer.strategy=test_beforehand:LabelsFirst"], "trained that could label"),
        (["transfer.strategy=pretrain-finetune", "model.use_text=false"], "model.use_text is off"),
        (["training.domain_weights.gaer=2"], "'gaer' is no domain"),
        (["alignment.features=['whitten']"], "'whitten'"),
    ],
)
def test_an_unsuitable_strategy_is_refused_before_encoding(small, overrides, message):
    assert message in refused(small, *overrides)


def test_a_target_without_a_training_event_is_refused_before_encoding(small):
    silent = replace(small, events=small.events.only(BOOKS))
    found = refused(
        silent, "split.kind=leave-one-out", "transfer.strategy=target-only", targets=["gear"]
    )
    assert "gear has no training event" in found


def test_people_and_pairs_that_a_loss_lacks_are_missed_before_encoding(small, tmp_path: Path):
    events = small.events
    # Everybody keeps to one domain.
    apart = replace(small, events=events.keep(events.domain == events.user % 2))
    assert "not two people have training events in both" in refused(apart, PEOPLE)
    path = tmp_path / "pairs.csv"
    path.write_text("domain_a,item_a,domain_b,item_b\n")
    no_pairs = f"alignment.pairs={path}"
    assert "no pair joins 'books' and 'gear'" in refused(small, ITEMS, no_pairs)
    procrustes = "alignment.features=['procrustes']"
    assert "no pair joins 'gear' and 'books'" in refused(small, procrustes, no_pairs)
    books, gear = small.domains
    untold = gear.items.with_columns(text=pl.lit(None, pl.String))
    silent = replace(small, domains=(books, replace(gear, items=untold)))
    assert "no item of 'gear' has a text, and pairing by text" in refused(silent, ITEMS)
    assert "no item of 'gear' has a text, and procrustes" in refused(silent, procrustes)


def test_a_wrong_name_of_weights_in_a_late_stage_is_said_before_the_first(small, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("an epoch was trained")

    monkeypatch.setattr(_Run, "epoch", never)
    stages = [
        Train("a", EVERYTHING, EVEN, share=0.5),
        Train("b", EVERYTHING, EVEN, share=0.5, frozen=("user.blocks",)),
    ]
    config, raw = settings(), texts(small)
    features = align_features(raw, config, small)
    with pytest.raises(ConfigError, match=r"stage 'b': .*'users\.blocks'"):
        run_stages(stages, small, global_cut(small), features, config, raw=raw)
