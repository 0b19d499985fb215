"""Questions that stop training are few, and always the same."""

from __future__ import annotations

import numpy as np
import pytest

from isthmus.data.splits import global_cut
from isthmus.data.world import WorldConfig, generate_world
from isthmus.evaluation.stopping import fixed_sample


@pytest.mark.parametrize("domain", [0, 1])
def test_a_sample_of_questions_is_about_one_domain_and_fixed(domain: int) -> None:
    dataset = generate_world(WorldConfig(n_users=80, seed=1)).dataset
    asked = global_cut(dataset).validation
    about = asked.where(dataset.events.domain[asked.position] == domain)
    assert len(about) > 20
    np.testing.assert_array_equal(
        fixed_sample(dataset, asked, domain, 10_000).position, about.position
    )
    some = fixed_sample(dataset, asked, domain, 9).position
    assert len(some) == 9
    assert set(some) <= set(about.position)
    assert (np.diff(some) > 0).all()
    np.testing.assert_array_equal(some, fixed_sample(dataset, asked, domain, 9).position)
