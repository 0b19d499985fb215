"""What a step of contrast holds, and what it costs."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from isthmus.data.next_items import NextItems
from isthmus.data.pairs import ItemPairs
from isthmus.language.tuning.contrast import Contrast, Space
from isthmus.language.tuning.samplers import HistorySampler, Negatives, PairSampler, Readable

# Items 0–3 of one domain, 4–7 of another; 2 and 3 read the same, 7 has no text.
TEXT = np.array([0, 1, 2, 2, 3, 4, 5, -1])
DOMAIN = np.array([0, 0, 0, 0, 1, 1, 1, 1])
PAIRS = [(0, 1, 3.0), (0, 2, 1.0), (4, 5, 2.0), (1, 4, 1.0)]


def pairs() -> ItemPairs:
    both = PAIRS + [(j, i, w) for i, j, w in PAIRS]
    first, second, weight = (np.array(column) for column in zip(*both, strict=True))
    together = sp.csr_array((np.ones(len(first), bool), (first, second)), shape=(8, 8))
    return ItemPairs(first, second, weight, DOMAIN[first] * 2 + DOMAIN[second], 2, together)


def sampler(cross_share: float = 0.5, **changes) -> PairSampler:
    readable = Readable(TEXT, DOMAIN)
    negatives = Negatives(readable, 12, **changes)
    return PairSampler(pairs(), readable, size=16, negatives=negatives, cross_share=cross_share)


def histories(length: int) -> HistorySampler:
    """Somebody chose 0, 1, 2 and then 4, 5; somebody else 3, 1."""
    item, domain = np.array([0, 1, 2, 3, 1, 4, 5]), np.array([0, 0, 0, 0, 0, 1, 1])
    person, begin = np.array([0, 0, 0, 1, 1, 0, 0]), np.array([0, 0, 0, 3, 3, 5, 5])
    chosen = sp.csr_array((np.ones(7, bool), (person, item)), shape=(2, 8))
    behaviour = NextItems(item, domain, person, begin, chosen)
    negatives = Negatives(Readable(TEXT, DOMAIN), 12)
    return HistorySampler(
        behaviour, behaviour.answers, size=16, negatives=negatives, length=length, recency=0.5
    )


def test_a_step_is_of_one_kind_and_its_negatives_are_of_the_answers_domain():
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(60):
        batch = sampler().draw(rng)
        (kind,) = set((DOMAIN[batch.anchor[:, 0]] * 2 + DOMAIN[batch.candidates[:16]]).tolist())
        kinds.add(kind)
        assert set(DOMAIN[batch.candidates]) == {kind % 2}
        assert 7 not in batch.candidates
    assert kinds == {0, 1, 2, 3}


def test_nothing_that_occurs_together_or_reads_alike_is_a_negative():
    rng = np.random.default_rng(0)
    known = pairs().together.toarray()
    for _ in range(60):
        batch = sampler().draw(rng)
        for n, anchor in enumerate(batch.anchor[:, 0]):
            answer = batch.candidates[n]
            for m, candidate in enumerate(batch.candidates):
                same = TEXT[candidate] in (TEXT[anchor], TEXT[answer])
                expected = m != n and bool(known[anchor, candidate] or same)
                assert batch.hidden[n, m] == expected


def test_pairs_are_drawn_by_weight_and_across_domains_by_share():
    rng = np.random.default_rng(0)
    drawn = [sampler(cross_share=0.25).draw(rng) for _ in range(800)]
    across = [DOMAIN[b.anchor[0, 0]] != DOMAIN[b.candidates[0]] for b in drawn]
    assert np.mean(across) == pytest.approx(0.25, abs=0.05)
    within = [b for b in drawn if DOMAIN[b.anchor[0, 0]] == DOMAIN[b.candidates[0]] == 0]
    chosen = np.concatenate([b.anchor[:, 0] + b.candidates[:16] for b in within])
    assert np.mean(chosen == 1) == pytest.approx(0.75, abs=0.03)


def test_hard_negatives_are_near_the_answers():
    near = np.full((8, 2), 3)
    near[4:] = 6
    rng = np.random.default_rng(0)
    batch = sampler(near=near, hard_share=1.0).draw(rng)
    assert set(batch.candidates[16:]) == {3 if DOMAIN[batch.candidates[0]] == 0 else 6}


def test_a_history_is_its_latest_items_and_its_answer_the_next_one():
    rng = np.random.default_rng(0)
    seen = {}
    for _ in range(40):
        batch = histories(2).draw(rng)
        assert batch.weight.dtype == np.float32
        for n, anchor in enumerate(batch.anchor):
            held = tuple((int(i), float(w)) for i, w in zip(anchor, batch.weight[n], strict=True))
            seen[tuple(pair for pair in held if pair[1])] = int(batch.candidates[n])
        assert len(set(DOMAIN[batch.candidates])) == 1
    assert seen == {
        ((0, 1.0),): 1,
        ((1, 1.0), (0, 0.5)): 2,
        ((3, 1.0),): 1,
        ((4, 1.0),): 5,
    }


def test_nothing_that_the_person_chose_or_that_reads_like_the_answer_is_a_negative():
    rng = np.random.default_rng(0)
    chosen = {1: {0, 1, 2, 4, 5}, 2: {0, 1, 2, 4, 5}, 5: {0, 1, 2, 4, 5}}
    for _ in range(40):
        batch = histories(1).draw(rng)
        for n, anchor in enumerate(batch.anchor[:, 0]):
            answer = int(batch.candidates[n])
            own = {3, 1} if anchor == 3 else chosen[answer]
            for m, candidate in enumerate(batch.candidates):
                expected = m != n and (candidate in own or TEXT[candidate] == TEXT[answer])
                assert batch.hidden[n, m] == expected


@pytest.mark.parametrize("draws", [sampler, lambda: histories(2)], ids=["pairs", "histories"])
def test_the_loss_is_the_cross_entropy_of_whitened_cosines(draws):
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
        draws(),
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
        whole = batch.weight[n] @ np.stack([unit(item) for item in anchor])
        whole /= np.linalg.norm(whole)
        logits = np.array([whole @ unit(c) / 0.2 for c in batch.candidates])
        shown = np.where(batch.hidden[n], -np.inf, logits)
        expected.append(np.log(np.exp(shown).sum()) - logits[n])
    assert float(task.nats(batch)) == pytest.approx(np.mean(expected), rel=1e-4)
