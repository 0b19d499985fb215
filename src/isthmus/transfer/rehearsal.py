"""Part weights for a domain of which no event is known, found by pretending it of the others.

Weights that suit a domain with behaviour trust its neural part too much: they know its IDs and its
own head. So each domain that was validated is asked again as if it were new: its items by their
texts alone, its head and its reading the mean of the others', and nothing known to co-occurrence
and popularity; for a domain that joins, its people with what they did elsewhere alone. The mean of
the weights fitted so is what a new domain starts with. A transformer trained on the domain is all
that is left of it, for to train one without each domain would take as long as fitting all again,
and so the neural part is trusted less (`TRUST`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from isthmus.blend.examples import gather
from isthmus.blend.fitting import fit_weights
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Split
from isthmus.model.growth import with_domains
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Scorer
from isthmus.transfer.judges import judges

LEAST = 100
"""Questions about a domain for it to be rehearsed."""

TRUST = 0.25
"""Share that is left of the neural part's weight.

Without events of the target, NDCG@10 against text alone on validation is +1.8 % (kitchen), −.2 %
(food) and +.3 % (toys) with it, and −2.5, −1.4 and −1.9 % where the neural part keeps all of it;
halves and tenths lie between or cannot be told from it.
"""


def rehearsed_weights(
    neural: NeuralScorer,
    parts: Mapping[str, Scorer],
    dataset: Dataset,
    split: Split,
    features: Sequence[ItemFeatures],
    config: Config,
    trained: Sequence[int],
    *,
    newcomers: bool,
) -> dict[str, float] | None:
    """Mean weights of the parts that need no event, over rehearsals; None where none is possible.

    Args:
        neural: of the transferred side.
        parts: of a domain that joins; what they say of earlier domains rests on no event either.
        dataset: holds the questions' events.
        split: gives them.
        features: aligned text vectors of the domains that it knows.
        config: protocol.
        trained: domains that it was trained on.
        newcomers: ask people as if they had done nothing in the domain yet.
    """
    speaking = [name for name in parts if name in ("neural", "text")]
    if not speaking:
        return None
    found = []
    for domain in trained:
        asked = dict(parts)
        if "neural" in parts:
            asked["neural"] = _as_if_new(neural, features, domain, trained)
        questions = judges(split, dataset, domain, config.blend)
        examples = gather(
            {name: asked[name] for name in speaking},
            dataset,
            questions,
            domain,
            batch=config.evaluation.batch,
            max_history=config.evaluation.max_history,
            seed=config.seed,
            hide_target_history=newcomers and len(trained) > 1,
            exclude_seen=config.evaluation.exclude_seen,
        )
        # Somebody of whom nothing is known is no question that parts could be told apart by.
        spoken = np.asarray(examples.scores.any(axis=(1, 2)))
        if spoken.sum() >= LEAST:
            found.append(fit_weights(examples.where(spoken)))
    if not found:
        return None
    weights = dict(zip(speaking, np.mean(found, axis=0).tolist(), strict=True))
    if len(speaking) > 1 and "neural" in weights:
        weights["neural"] *= TRUST
    return weights


@torch.no_grad()
def _as_if_new(
    neural: NeuralScorer, features: Sequence[ItemFeatures], domain: int, trained: Sequence[int]
) -> NeuralScorer:
    others = [d for d in trained if d != domain] or list(trained)
    model = neural.model
    evidence = model.items.evidence.cpu().numpy().copy()
    evidence[model.bounds[domain] : model.bounds[domain + 1]] = 0
    lent = with_domains(model, features, read=others, asked=others, evidence=evidence)
    return NeuralScorer(lent, neural.reads)
