import numpy as np
import pytest
import torch

from isthmus.config import ModelConfig
from isthmus.data.features import ItemFeatures
from isthmus.model.core import CoreModel

SIZES = ModelConfig(
    dim=8, layers=2, heads=2, dropout=0.0, max_length=6, cross_attention_penalty=1.0
)
DOMAIN = torch.tensor([0, 1, 1, 0, 1, 0])
OFFSETS = torch.tensor([0, 4, 6])


def _states(config: ModelConfig, domain: torch.Tensor = DOMAIN) -> tuple[CoreModel, torch.Tensor]:
    features = [ItemFeatures(np.ones((6, 3), np.float32), np.ones(6, bool)) for _ in range(2)]
    model = CoreModel(features, np.ones(12, np.float32), config, seed=0).train()
    model.users.watched = config.cross_attention_penalty > 0
    items = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    time = torch.arange(6, dtype=torch.float64)
    return model, model.states(items, domain, time, OFFSETS)


def test_watching_attention_changes_no_state():
    _, watched = _states(SIZES)
    _, plain = _states(SIZES.model_copy(update={"cross_attention_penalty": 0.0}))
    assert torch.allclose(watched, plain, atol=1e-6)


def test_the_share_is_that_of_a_count_by_hand():
    model, _ = _states(SIZES)
    # With keys of zero every event looks at all before it and itself alike.
    with torch.no_grad():
        for block in model.users.blocks:
            block.qkv.weight[8:16] = 0
            block.qkv.bias[8:16] = 0
    items = torch.randn(6, 8)
    model.states(items, DOMAIN, torch.arange(6, dtype=torch.float64), OFFSETS)
    by_hand = [0, 1 / 2, 1 / 3, 2 / 4, 0, 1 / 2]
    assert model.users.foreign_attention().item() == pytest.approx(sum(by_hand) / 6, rel=1e-5)


def test_one_domain_has_no_foreign_attention():
    model, _ = _states(SIZES, torch.zeros(6, dtype=torch.long))
    assert model.users.foreign_attention().item() == 0


def test_the_share_can_be_brought_down():
    model, _ = _states(SIZES)
    optimiser = torch.optim.Adam(model.users.parameters(), lr=0.01)
    items = torch.randn(6, 8)
    shares = []
    for _ in range(60):
        model.states(items, DOMAIN, torch.arange(6, dtype=torch.float64), OFFSETS)
        share = model.users.foreign_attention()
        optimiser.zero_grad()
        share.backward()
        optimiser.step()
        shares.append(share.item())
    assert shares[-1] < 0.5 * shares[0]
