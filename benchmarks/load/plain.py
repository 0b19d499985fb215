"""What one would write in an afternoon: FastAPI, uvicorn, and the scorers called for each request.

The same answer as the service's for known people: the same blend and gate, the same lists, named
parts. It is spared the log: histories are those of the model.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from isthmus.evaluation.ranks import canonical_order
from isthmus.recommender import Recommender
from isthmus.recommender.asking import ask
from isthmus.recommender.ranking import best_items
from isthmus.recommender.serving import Served, bases


class Asked(BaseModel):
    user_id: str
    domains: list[str]
    k: int = 10


class Item(BaseModel):
    rank: int
    item_id: str
    title: str | None
    category: str | None
    score: float
    parts: dict[str, float]


class Listing(BaseModel):
    domain: str
    items: list[Item]
    basis: str


class Answer(BaseModel):
    recommendation_id: str
    model_version: str
    lists: list[Listing]


def make(folder: str) -> FastAPI:
    model = Recommender.load(folder)
    dataset = model.dataset
    titles = [domain.items["title"].to_list() for domain in dataset.domains]
    categories = [domain.items["category"].to_list() for domain in dataset.domains]
    ids = [domain.items["item_id"].to_list() for domain in dataset.domains]
    ranks = []
    for d in range(len(dataset.domains)):
        order = canonical_order(dataset, d)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        ranks.append(rank)
    app = FastAPI()

    @app.post("/recommend")
    def recommend(asked: Asked) -> Answer:
        d = dataset.domain_index(asked.domains[0])
        people = ask(dataset, users=[asked.user_id])
        with torch.inference_mode():
            top = best_items(
                model.system.gated,
                people,
                d,
                asked.k,
                offered=np.ones(len(ids[d]), bool),
                rank_of_equals=ranks[d],
            )
        (served,) = Served.each(model.system, d, people.visible)
        (basis,) = bases(dataset.names, people, d, asked.k, served, top)
        items = [
            Item(
                rank=n + 1,
                item_id=ids[d][i],
                title=titles[d][i],
                category=categories[d][i],
                score=float(top.score[0, n]),
                parts={name: float(part[0, n]) for name, part in top.parts.items()},
            )
            for n, i in enumerate(top.item[0].tolist())
        ]
        listing = Listing(domain=asked.domains[0], items=items, basis=basis)
        return Answer(recommendation_id="x", model_version="x", lists=[listing])

    return app


if __name__ == "__main__":
    torch.set_num_threads(1)
    uvicorn.run(make(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
