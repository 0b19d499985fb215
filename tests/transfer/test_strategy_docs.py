"""The strategy that docs/strategies.md adds is what it says, and its page names all there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from transfer_world import GEAR, settings, texts, world

from isthmus.alignment.domains import align_features
from isthmus.config import STRATEGIES
from isthmus.data.splits import global_cut
from isthmus.transfer import stages
from isthmus.transfer.execution import run_stages
from isthmus.transfer.sides import roles_of
from isthmus.transfer.strategies import chosen_strategy
from isthmus.transfer.system import fit_system

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text("utf-8")


def _block(name: str) -> str:
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"the page shows no {name}"
    return found.group(1)


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(_block("mine.py"), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    transfer = tomllib.loads(_block("isthmus.toml"))["transfer"]
    config = settings("training.epochs=4")
    section = config.transfer.model_validate(transfer)
    return config.model_copy(update={"transfer": section})


def test_the_strategy_of_the_page_can_be_chosen_and_does_what_it_says(chosen):
    dataset = world(1.0, n_users=150)
    split = global_cut(dataset)
    strategy = chosen_strategy(chosen.transfer, roles_of(dataset, chosen, GEAR))
    whole, late = strategy.stages(roles_of(dataset, chosen, GEAR))
    assert (whole.share, late.share) == (0.7, pytest.approx(0.3))
    features = align_features(texts(dataset), chosen, dataset)
    before, after = (
        run_stages(list(part), dataset, split, features, chosen, raw=texts(dataset)).model
        for part in ((whole,), (whole, late))
    )
    moved = {
        name
        for name, weight in before.state_dict().items()
        if not np.array_equal(weight.numpy(), after.state_dict()[name].numpy())
    }
    assert "items.table" in moved
    assert not [name for name in moved if name.startswith("users.blocks")]


def test_it_serves_like_any_other(chosen):
    dataset = world(1.0, n_users=150)
    system = fit_system(dataset, global_cut(dataset), texts(dataset), chosen, targets=[GEAR])
    assert system.transferred.name == "freeze-later"
    assert set(system.transferred.logs) == {"whole", "late"}


def test_the_page_names_every_strategy_and_stage():
    rows = set(re.findall(r"^\| `([\w-]+)`", PAGE, re.MULTILINE))
    kinds = {kind.__name__ for kind in stages.Stage.__args__}
    assert rows == set(STRATEGIES) | kinds
