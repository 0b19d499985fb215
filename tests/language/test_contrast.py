"""What a step of contrast holds, and what it costs."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from isthmus.data.pairs import ItemPairs
from isthmus.language.tuning.contrast import Contrast, PairSampler, Readable, Space

# Items 0–3 of one domain, 4–7 of another; 2 and 3 read the same, 7 has no text.
TEXT = np.array([0, 1, 2, 2, 3, 4, 5, -1])
DOMAIN = np.array([0, 0, 0, 0, 1, 1, 1, 1])
PAIRS = [(0, 1, 3.0), (0, 2, 1.0), (4, 5, 2.0), (1, 4, 1.0)]


def pairs() -> ItemPairs:
    both = PAIRS + [(j, i, w) for i, j, w in PAIRS]
    first, second, weight = (np.array(column) for column in zip(*both, strict=True))
    together = sp.csr_array((np.ones(len(first), bool), (first, second)), shape=(8, 8))
    return ItemPairs(first, second, weight, DOMAIN[first] * 2 + DOMAIN[second], 2, together)


def sampler(**changes) -> PairSampler:
    given = {"size": 16, "negatives": 12, "cross_share": 0.5}
    return PairSampler(pairs(), Readable(TEXT, DOMAIN), **{**given, **changes})


def test_a_step_is_of_one_kind_and_its_negatives_are_of_the_answers_domain():
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        batch = sampler().draw(rng)
        (kind,) = set((DOMAIN[batch.anchor] * 2 + DOMAIN[batch.candidates[:16]]).tolist())
        kinds.add(kind)
        assert set(DOMAIN[batch.candidates]) == {kind % 2}
        assert 7 not in batch.candidates
    assert kinds == {0, 1, 2, 3}


def test_nothing_that_occurs_together_or_reads_alike_is_a_negative():
    rng = np.random.default_rng(0)
    known = pairs().together.toarray()
    for _ in range(60):
        batch = sampler().draw(rng)
        for n, anchor in enumerate(batch.anchor):
            answer = batch.candidates[n]
            for m, candidate in enumerate(batch.candidates):
                same = TEXT[candidate] in (TEXT[anchor], TEXT[answer])
                expected = m != n and bool(known[anchor, candidate] or same)
                assert batch.hidden[n, m] == expected


def test_pairs_are_drawn_by_weight_and_across_domains_by_share():
    rng = np.random.default_rng(0)
    drawn = [sampler(cross_share=0.25).draw(rng) for _ in range(800)]
    across = [DOMAIN[b.anchor[0]] != DOMAIN[b.candidates[0]] for b in drawn]
    assert np.mean(across) == pytest.approx(0.25, abs=0.05)
    within = [b for b in drawn if DOMAIN[b.anchor[0]] == DOMAIN[b.candidates[0]] == 0]
    chosen = np.concatenate([b.anchor + b.candidates[:16] for b in within])
    assert np.mean(chosen == 1) == pytest.approx(0.75, abs=0.03)


def test_hard_negatives_are_near_the_answers():
    near = np.full((8, 2), 3)
    near[4:] = 6
    rng = np.random.default_rng(0)
    batch = sampler(near=near, hard_share=1.0).draw(rng)
    assert set(batch.candidates[16:]) == {3 if DOMAIN[batch.candidates[0]] == 0 else 6}


def test_the_loss_is_the_cross_entropy_of_whitened_cosines():
    generator = np.random.default_rng(0)
    vectors = torch.from_numpy(generator.normal(size=(6, 4)).astype(np.float32))
    maps = [
        (generator.normal(size=4).astype(np.float32), generator.normal(size=(4, 3)).astype("f4"))
        for _ in range(2)
    ]
    module = torch.nn.Linear(1, 1)
    task = Contrast(
        module,
        dict(module.named_parameters()),
        lambda rows: vectors[torch.from_numpy(rows)],
        sampler(),
        Readable(TEXT, DOMAIN),
        Space(maps),
        temperature=0.2,
        steps=3,
        device=torch.device("cpu"),
    )
    batch = task.batch(np.random.default_rng(1))

    def unit(item: int) -> np.ndarray:
        mean, matrix = maps[DOMAIN[item]]
        found = (vectors[TEXT[item]].numpy() - mean) @ matrix
        return found / np.linalg.norm(found)

    expected = []
    for n, anchor in enumerate(batch.anchor):
        logits = np.array([unit(anchor) @ unit(c) / 0.2 for c in batch.candidates])
        shown = np.where(batch.hidden[n], -np.inf, logits)
        expected.append(np.log(np.exp(shown).sum()) - logits[n])
    assert float(task.nats(batch)) == pytest.approx(np.mean(expected), rel=1e-4)
