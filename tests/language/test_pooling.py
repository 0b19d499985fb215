"""Pooling against sums done by hand."""

import numpy as np
import pytest
import torch

from isthmus.language.pooling import pool

STATES = torch.tensor(
    [[[1.0, 2.0], [3.0, 6.0], [90.0, 90.0]], [[5.0, 5.0], [7.0, 9.0], [0.0, 1.0]]]
)
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("mean", [[2.0, 4.0], [4.0, 5.0]]),
        ("cls", [[1.0, 2.0], [5.0, 5.0]]),
        ("last", [[3.0, 6.0], [0.0, 1.0]]),
    ],
)
def test_pooling_reads_real_tokens_only(how, expected):
    np.testing.assert_allclose(pool(STATES, MASK, how).numpy(), expected)
