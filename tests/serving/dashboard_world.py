"""A model folder with three versions and hostile titles, as the dashboard may meet it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import polars as pl
from serving_world import fitted

from isthmus.continual.drift import Watch
from isthmus.continual.judge import Verdict
from isthmus.continual.progress import Progress
from isthmus.online.log import EventLog
from isthmus.recommender import Recommender
from isthmus.recommender.storage import LogPosition

HOSTILE = "<script>document.title='run'</script><img src=x onerror=alert(1)>"
HOSTILE_ID = "</script><b>id</b>&\"'"


@cache
def hostile() -> Recommender:
    """The fitted model with titles that are HTML, and one such id."""
    model = fitted()
    domains = []
    for domain in model.dataset.domains:
        every_third = pl.int_range(pl.len()) % 3 == 0
        title = pl.when(every_third).then(pl.lit(HOSTILE) + pl.col("item_id"))
        first = pl.int_range(pl.len()) == 0
        item_id = pl.when(first).then(pl.lit(HOSTILE_ID)).otherwise(pl.col("item_id"))
        items = domain.items.with_columns(
            title=title.otherwise(pl.col("title")),
            item_id=item_id.cast(domain.items["item_id"].dtype),
        )
        domains.append(replace(domain, items=items))
    dataset = replace(model.dataset, domains=tuple(domains))
    return Recommender(dataset, model.config, model.split, model.raw, model.system)


def learnt(folder: Path, log: EventLog) -> None:
    """Write a fitted version, an update that went live, and one that was kept back."""
    model = hostile()
    model.save(folder)
    windows = Watch.new(0.002)
    for n in range(200):
        for window in windows.windows.values():
            window.add(0.5 + 0.1 * (n % 3))
    better = Verdict(True, "No worse: ahead by 4 % on 300 questions.", 300, 120, 0.2, 0.21, 0.98,
                     (0.04, 0.01, 0.08))  # fmt: skip
    worse = Verdict(False, "Worse: behind by 9 % on 280 questions.", 280, 110, 0.21, 0.19, 0.1,
                    (-0.09, -0.15, -0.02))  # fmt: skip
    drift = ("chosen items",)
    updates = (
        Progress("update", 1, 1, parent="v000001", learnt=900, replayed=1800, held_back=300,
                 seconds=4.2, verdict=better, watch=windows.state()),
        Progress("full fine-tune", 2, 0, parent="v000002", learnt=500, replayed=9000, held_back=280,
                 drift=drift, seconds=61.0, verdict=worse, watch=windows.state()),
    )  # fmt: skip
    for progress in updates:
        version = Recommender(
            model.dataset, model.config, model.split, model.raw, model.system,
            LogPosition(log.id, 0), progress,
        )  # fmt: skip
        version.save(folder, live=progress is updates[0])
