"""Part weights for a domain without any event, found on the others."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from transfer_world import BOOKS, GEAR, settings, texts, world

from isthmus.alignment.domains import align_features
from isthmus.config import Config
from isthmus.data.splits import global_cut
from isthmus.scoring import Scorer
from isthmus.transfer import rehearsal
from isthmus.transfer.rehearsal import TRUST, rehearsed_weights
from isthmus.transfer.sides import Side, fit_side, roles_of
from isthmus.transfer.strategies import chosen_strategy

DATASET = world(1.0, n_users=400)
SPLIT = global_cut(DATASET)
CONFIG = settings("training.epochs=4")


@pytest.fixture(scope="module")
def side() -> Side:
    raw = texts(DATASET)
    strategy = chosen_strategy(CONFIG.transfer, roles_of(DATASET, CONFIG, None))
    features = align_features(raw, CONFIG, DATASET)
    return fit_side(strategy, DATASET, SPLIT, raw, features, CONFIG)


def rehearsed(side: Side, parts: Mapping[str, Scorer], config: Config = CONFIG):
    features = align_features(texts(DATASET), config, DATASET)
    return rehearsed_weights(
        side.neural, parts, DATASET, SPLIT, features, config, (BOOKS, GEAR), newcomers=False
    )


def test_a_transformer_that_knows_the_texts_already_is_trusted_by_a_part(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rehearsed(side, side.parts)
    assert set(found) == {"neural", "text"}, "what needs events has no say"
    monkeypatch.setattr(rehearsal, "TRUST", 1.0)
    whole = rehearsed(side, side.parts)
    assert found["text"] == whole["text"]
    assert found["neural"] == pytest.approx(TRUST * whole["neural"])
    assert 0 < TRUST < 1


def test_a_part_that_speaks_alone_keeps_its_weight(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = {"neural": side.neural}
    found = rehearsed(side, alone)
    monkeypatch.setattr(rehearsal, "TRUST", 1.0)
    assert found == rehearsed(side, alone)


def test_too_few_questions_are_no_rehearsal(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LEAST", len(SPLIT.validation.position) + 1)
    assert rehearsed(side, side.parts) is None


def test_where_seen_items_are_offered_the_rehearsal_offers_them(side: Side) -> None:
    """Texts are most alike to what somebody had, and that is no answer."""
    offered = rehearsed(side, side.parts, CONFIG.override("evaluation.exclude_seen=false"))
    usual = rehearsed(side, side.parts)
    assert offered["text"] / offered["neural"] < usual["text"] / usual["neural"]
