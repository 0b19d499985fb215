import numpy as np
import pytest
import torch
from torch import nn

from isthmus.config import ModelConfig
from isthmus.data.features import ItemFeatures
from isthmus.errors import ConfigError
from isthmus.model.core import CoreModel
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Request, Requests

SIZES = ModelConfig(dim=8, layers=1, heads=2, max_length=6, adapter_rank=2)


class Own(nn.Module):
    """A head of a user's own: every dimension louder or quieter."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.volume = nn.Parameter(torch.ones(dim))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states * self.volume


def _model(**how: object) -> CoreModel:
    features = [ItemFeatures(np.ones((6, 3), np.float32), np.ones(6, bool)) for _ in range(3)]
    config = SIZES.model_copy(update=how)
    return CoreModel(features, np.ones(18, np.float32), config, seed=0).eval()


def _drawn(model: CoreModel) -> CoreModel:
    for head in model.users.adapters:
        for weight in head.parameters():
            nn.init.normal_(weight)
    return model


@pytest.mark.parametrize("head", ["low-rank", "test_heads:Own"])
def test_every_domain_asks_by_a_head_of_its_own(head):
    model = _drawn(_model(head=head))
    states = torch.randn(4, 8)
    asked = [model.ask(states, d) for d in range(3)]
    assert not torch.allclose(asked[0], asked[1])
    before = model.ask(states, 1).clone()
    with torch.no_grad():
        next(iter(model.users.adapters[0].parameters())).add_(1.0)
    assert torch.equal(model.ask(states, 1), before)


def test_a_head_of_ones_own_is_saved_and_comes_back():
    model = _drawn(_model(head="test_heads:Own"))
    scorer = NeuralScorer(model, (0, 1, 2))
    features = [ItemFeatures(np.ones((6, 3), np.float32), np.ones(6, bool)) for _ in range(3)]
    again = NeuralScorer.from_state(scorer.state(), features)
    requests = Requests.of([Request(history=[(0, 1), (2, 3)])])
    assert np.array_equal(again.score(requests, 1).total, scorer.score(requests, 1).total)


def test_a_domain_that_was_never_asked_borrows_the_mean_of_the_others():
    model = _drawn(_model(head="test_heads:Own"))
    model.borrow_asking(2, [0, 1])
    heads = [head.volume for head in model.users.adapters]
    assert torch.allclose(heads[2], (heads[0] + heads[1]) / 2)


def test_low_rank_heads_lend_the_mean_of_what_they_do():
    states = torch.randn(5, 8)
    model = _drawn(_model())
    model.borrow_asking(2, [1])
    assert torch.allclose(model.ask(states, 2), model.ask(states, 1), atol=1e-4)
    # Two of rank 2 have a mean of rank 4: with room for it, it is met exactly.
    wide = _drawn(_model(adapter_rank=4))
    with torch.no_grad():
        for head in wide.users.adapters:
            head.up.weight[:, 2:] = 0
    wide.borrow_asking(2, [0, 1])
    mean = (wide.ask(states, 0) + wide.ask(states, 1)) / 2
    assert torch.allclose(wide.ask(states, 2), mean, atol=1e-4)


def test_heads_of_a_rank_above_the_dimension_lend_their_mean_too():
    model = _drawn(_model(adapter_rank=11))
    states = torch.randn(5, 8)
    model.borrow_asking(2, [0, 1])
    mean = (model.ask(states, 0) + model.ask(states, 1)) / 2
    assert torch.allclose(model.ask(states, 2), mean, atol=1e-4)


def test_without_heads_all_domains_ask_alike():
    model = _model(adapter_rank=0)
    states = torch.randn(4, 8)
    assert torch.equal(model.ask(states, 0), states)
    model.borrow_asking(2, [0])


@pytest.mark.parametrize(
    ("head", "message"),
    [("numpy:array", "is no torch.nn.Module"), ("no_such:Head", "cannot be imported")],
)
def test_what_is_no_head_is_refused(head, message):
    with pytest.raises(ConfigError, match=message):
        _model(head=head)
