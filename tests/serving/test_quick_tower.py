"""The user tower as one graph gives what the tower itself gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus.config import ModelConfig
from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel
from isthmus.scoring import Request, Requests
from isthmus.serving.quick_tower import QuickTower

N_ITEMS = (7, 9)


class Louder(torch.nn.Module):
    """A head of a user's own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.volume = torch.nn.Parameter(torch.ones(dim))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states * self.volume


def tower(**how: object) -> CoreModel:
    """A small model whose every weight differs from what it starts as."""
    features = [ItemFeatures(np.ones((n, 3), np.float32), np.ones(n, bool)) for n in N_ITEMS]
    config = ModelConfig(dim=8, heads=2, max_length=6, adapter_rank=2).model_copy(update=how)
    model = CoreModel(features, np.ones(sum(N_ITEMS), np.float32), config, seed=0).eval()
    torch.manual_seed(1)
    for weight in model.users.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return model


def histories(*lengths: int) -> Requests:
    rng = np.random.default_rng(len(lengths))
    return Requests.of(
        [
            Request(
                [(d := int(rng.integers(2)), int(rng.integers(N_ITEMS[d]))) for _ in range(n)],
                np.where(rng.random(n) < 0.2, np.nan, 1e9 + (9e5 * rng.random(n)).cumsum()),
            )
            for n in lengths
        ]
    )


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"time_gaps": False},
        {"heads": 4, "feed": 3},
        {"adapter_rank": 0},
        {"head": "test_quick_tower:Louder"},
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", [(1,), (6,), (3, 6, 1, 1, 5)], ids=str)
def test_queries_are_those_of_the_tower(
    layers: int, how: dict[str, object], lengths: tuple[int, ...]
) -> None:
    model, asked = tower(layers=layers, **how), histories(*lengths)
    items = torch.randn(len(asked.item), 8)
    with torch.inference_mode():
        states = model.last_states(
            items,
            torch.from_numpy(asked.domain.astype(np.int64)),
            torch.from_numpy(asked.time),
            torch.from_numpy(asked.offsets),
        )
        quick = QuickTower.of(model.users)
        for domain in (0, 1):
            found = quick.queries(items.numpy(), asked, domain)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, model.ask(states, domain).numpy(), atol=2e-5)


def test_no_history_sees_another() -> None:
    quick, asked = QuickTower.of(tower().users), histories(4, 6, 2)
    items = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    together = quick.queries(items, asked, 1)
    for row in range(3):
        alone = asked.select(np.array([row]))
        own = items[asked.offsets[row] : asked.offsets[row + 1]]
        np.testing.assert_allclose(quick.queries(own, alone, 1)[0], together[row], atol=1e-5)
