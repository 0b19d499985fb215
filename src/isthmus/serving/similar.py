"""Items like an item, new ones included, by the relations that `Recommender.similar` uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from isthmus.errors import RequestError
from isthmus.recommender.ranking import best_columns
from isthmus.recommender.relations import NOTHING
from isthmus.recommender.similar import relation, share
from isthmus.scoring import Float
from isthmus.serving.live import Live
from isthmus.serving.quick_side import QuickSide


@dataclass(frozen=True)
class Near:
    """An item that is like another.

    Attributes:
        place: local index.
        score: relative to the average item.
        parts: by relation; they add up to the score.
    """

    place: int
    score: float
    parts: dict[str, float]


def similar(live: Live, domain: int, place: int, to: int, k: int) -> list[Near]:
    """The `k` items of domain `to` that stand nearest to an item.

    Args:
        live: what answers.
        domain: index of the item's domain.
        place: its local index.
        to: index of the domain to look in.
        k: how many.

    Raises:
        RequestError: the item has neither text nor behaviour, so that nothing can be compared.
    """
    quick, shelf = live.quick, live.shelves[to]
    side = quick.laid_out(live.recommender.system.comparing(domain, to))
    with torch.inference_mode():
        made = {
            "neural": lambda: _by_vectors(side, domain, place, to),
            "co-occurrence": lambda: _by_company(live, side, domain, place, to),
            "text": lambda: _by_texts(side, domain, place, to),
        }
        found = {name: made[name]() for name in made if name in side.side.parts}
    if not any((parts != NOTHING).any() for parts in found.values()):
        raise RequestError(
            "the item has neither a text nor any behaviour to compare by",
            where=f"{live.names[domain]}: {live.shelves[domain].ids[place]}",
            hint="Give it a title, or wait for its first events",
        )
    if domain == to:
        for name in ("neural", "text"):
            # An item's likeness to itself says nothing of the others.
            found.get(name, np.zeros(len(shelf)))[place] = NOTHING
    parts = {name: share(values) / np.float32(len(found)) for name, values in found.items()}
    total = np.where(shelf.offered, np.sum(list(parts.values()), axis=0), -np.inf)
    if domain == to:
        total[place] = -np.inf
    best = best_columns(total[None].astype(np.float32), k, shelf.rank_of_equals)[0]
    return [
        Near(i, float(total[i]), {name: float(part[i]) for name, part in parts.items()})
        for i in best[best >= 0].tolist()
    ]


def text_alone(live: Live, domain: int, place: int, to: int) -> bool:
    """Whether nobody has chosen an item as far as the model knows, so that its text speaks alone.

    Args: as for `similar`.
    """
    model = live.quick.laid_out(live.recommender.system.comparing(domain, to)).side.neural.model
    row = model.bounds[domain] + place
    return row >= model.bounds[domain + 1] or float(model.items.evidence[row]) <= 0


def _by_vectors(side: QuickSide, domain: int, place: int, to: int) -> Float:
    """Cosine in the neural item space, about each domain's mean."""
    known, others = (_known(side, d) for d in (domain, to))
    unit = [_unit(side.vectors[d] - side.vectors[d].mean(0)) for d in (domain, to)]
    cosine: Float = (unit[1] @ unit[0][place]).numpy()
    return np.where(others & known[place], cosine, NOTHING)


def _by_texts(side: QuickSide, domain: int, place: int, to: int) -> Float:
    mine, others = side.texts[domain], side.texts[to]
    told = others.row != others.missing
    if mine.row[place] == mine.missing:
        return np.full(len(told), NOTHING, np.float32)
    cosine = (others.table @ mine.table[mine.row[place]])[others.row]
    return np.where(told.numpy(), cosine.numpy(), NOTHING)


def _by_company(live: Live, side: QuickSide, domain: int, place: int, to: int) -> Float:
    """What was chosen together; of new items nothing is known."""
    offsets = live.recommender.dataset.item_offsets
    found = np.full(len(side.vectors[to]), NOTHING, np.float32)
    if place < offsets[domain + 1] - offsets[domain]:
        relations = live.recommender.related(side.side)
        start, stop = int(offsets[to]), int(offsets[to + 1])
        known = relation(relations, "co-occurrence", int(offsets[domain]) + place, start, stop)
        found[: stop - start] = known
    return found


def _known(side: QuickSide, domain: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Items that a text or behaviour tells from others, bool [n_items]."""
    model = side.side.neural.model
    rows = slice(model.bounds[domain], model.bounds[domain + 1])
    known = (model.items.present[rows] | (model.items.evidence[rows] > 0)).numpy()
    # A new item is known by its text, which is all that made its vector.
    new = side.vectors[domain][len(known) :].any(1).numpy()
    return np.concatenate([known, new])


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    length: torch.Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / length.clamp(min=1e-12)
