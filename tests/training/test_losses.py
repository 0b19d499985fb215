import math

import pytest
import torch

from isthmus.training.losses import full_softmax, sampled_softmax


def test_full_softmax_is_cross_entropy_whatever_the_chunk():
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(7, 5, generator=generator)
    catalogue = torch.randn(23, 5, generator=generator)
    answer = torch.randint(0, 23, (7,), generator=generator)
    expected = torch.nn.functional.cross_entropy(queries @ catalogue.T, answer, reduction="none")
    for chunk in (4, 23, 100):
        assert torch.allclose(full_softmax(queries, catalogue, answer, chunk), expected, atol=1e-6)


def test_sampled_softmax_with_every_other_item_is_the_full_softmax():
    generator = torch.Generator().manual_seed(1)
    catalogue = torch.randn(11, 4, generator=generator)
    query = torch.randn(1, 4, generator=generator)
    others = torch.tensor([i for i in range(11) if i != 3])
    sampled = sampled_softmax(query, catalogue[3:4], catalogue[others], n_items=10)
    assert sampled.item() == pytest.approx(
        full_softmax(query, catalogue, torch.tensor([3])).item(), abs=1e-6
    )


def test_sampled_softmax_estimates_the_full_one_from_few_negatives():
    generator = torch.Generator().manual_seed(2)
    catalogue = 0.3 * torch.randn(2000, 8, generator=generator)
    query = torch.randn(1, 8, generator=generator)
    full = full_softmax(query, catalogue, torch.tensor([0])).item()
    draws = [
        sampled_softmax(
            query,
            catalogue[:1],
            catalogue[torch.randint(0, 2000, (256,), generator=generator)],
            n_items=2000,
        ).item()
        for _ in range(200)
    ]
    assert sum(draws) / len(draws) == pytest.approx(full, abs=0.02)


def test_a_negative_that_is_the_answer_does_not_count():
    query = torch.tensor([[1.0, 0.0]])
    answer = torch.tensor([[2.0, 0.0]])
    negatives = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    hit = torch.tensor([[True, False]])
    loss = sampled_softmax(query, answer, negatives, n_items=2, collisions=hit)
    assert loss.item() == pytest.approx(math.log(math.exp(2) + 1) - 2, abs=1e-6)
