"""A made-up run with everything a report can show; `bare` leaves out all that may be absent."""

from __future__ import annotations

from typing import Any

import numpy as np

from isthmus.experiment.schema import RunRecord
from isthmus.experiment.verdict import verdict

PARTS = ["neural", "co-occurrence", "text", "recent-popular"]
SLICES = [
    "new items",
    "items with ≤ 3 events",
    "cold users",
    "target history 1–2",
    "target history 3–10",
    "target history > 10",
]
SYSTEMS = {
    "isthmus": ("gated", "what is served: transferred, through the gate"),
    "cross-domain": ("transferred", "trained on all domains, blended"),
    "target-only": ("target-only", "same architecture and blend, target alone"),
    "neural part": ("baseline", "cross-domain, without the blend"),
    "co-occurrence": ("baseline", "merged history"),
    "co-occurrence, target only": ("baseline", ""),
    "SASRec": ("baseline", "ids, target only"),
    "EASE": ("baseline", ""),
    "ALS": ("baseline", ""),
    "content": ("baseline", "similarity of texts"),
    "recent-popular": ("baseline", ""),
    "popular": ("baseline", ""),
}
LEVEL = [1.0, 1.0, 0.72, 0.7, 0.64, 0.58, 0.6, 0.55, 0.5, 0.4, 0.2, 0.15]
SLICE_GATES = [
    {
        "people": "people new to gear", "weight": 1.0, "n": 812, "asked_again": 790,
        "measured": {"value": 0.61, "low": 0.4, "high": 0.85},
        "shrunk": {"value": 0.6, "low": 0.39, "high": 0.83},
    },
    {
        "people": "people with 1–8 events in gear and a history elsewhere", "weight": 0.6, "n": 413,
        "measured": {"value": 0.04, "low": -0.02, "high": 0.11},
        "shrunk": {"value": 0.05, "low": -0.01, "high": 0.11},
    },
    {
        "people": "people with 9 or more events in gear and a history elsewhere", "weight": 0.0,
        "n": 377,
        "measured": {"value": -0.12, "low": -0.2, "high": -0.03},
        "shrunk": {"value": -0.09, "low": -0.16, "high": -0.01},
    },
    {"people": "people with 9 or more events in gear and none elsewhere", "weight": 1.0, "n": 31},
]  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "מטחנת קפה ידנית מנירוסטה",
    "手冲咖啡壶 不锈钢 细口",
    "☕️🏔️ Trail mug 👩‍🌾",
    "long " * 400,
]


def rows(gain: dict[str, float]) -> list[dict[str, Any]]:
    """Figures of two targets; `gain` is the relative uplift of transfer by target."""
    made: list[dict[str, Any]] = []
    for target, up in gain.items():
        base = {"target": target, "protocol": "full", "sources": "books", "seed": 0}
        for (name, (role, _)), level in zip(SYSTEMS.items(), LEVEL, strict=True):
            if role in ("gated", "transferred"):
                level = 0.72 * (1 + (max(up, 0) if role == "gated" else up))
            for metric, top in {
                "ndcg@10": 0.0504, "hit_rate@10": 0.0882, "hit_rate@100": 0.254, "mrr": 0.041,
                "recall@20": 0.121, "coverage@10": 0.42, "novelty@10": 11.2,
            }.items():  # fmt: skip
                value = top * level
                made.append(
                    base
                    | {"system": name, "slice": "all", "metric": metric, "value": value}
                    | {"ci_low": value * 0.94, "ci_high": value * 1.06, "n": 7144}
                )
            served = 0.0504 * 0.72 * (1 + max(up, 0))
            if role != "gated":
                gap, spread = served - 0.0504 * level, 0.0015
                made.append(
                    base
                    | {"system": "isthmus", "against": name, "slice": "all", "metric": "ndcg@10"}
                    | {"value": gap, "ci_low": gap - spread, "ci_high": gap + spread}
                    | {"n": 7144, "p_holm": 0.001}
                )
        for i, slice_ in enumerate(["all", *SLICES]):
            alone = 0.0504 * 0.72 * (1 - 0.08 * i)
            gain_here = alone * up * [1, 1.9, 1.3, 2.1, 1.6, 0.4, -0.6][i]
            width = alone * [0.07, 0.3, 0.2, 0.25, 0.12, 0.14, 0.1][i]
            n = [7144, 612, 903, 1428, 2210, 3001, 1933][i]
            at = base | {"slice": slice_, "metric": "ndcg@10", "n": n}
            if slice_ != "all":
                made.append(at | {"system": "target-only", "value": alone})
            made.append(
                at
                | {"system": "cross-domain", "against": "target-only", "value": gain_here}
                | {"ci_low": gain_here - width, "ci_high": gain_here + width, "p_holm": 0.01}
            )
            if slice_ != "all":
                kept = max(gain_here, 0)
                made.append(
                    at
                    | {"system": "isthmus", "against": "target-only", "value": kept}
                    | {"ci_low": kept - width / 2, "ci_high": kept + width / 2, "p_holm": 0.2}
                )
    return made


def points() -> list[dict[str, Any]]:
    """Gear with less data and under two controls: one takes the gain away, one leaves it."""

    def change(value: float, width: float = 0.05) -> dict[str, float]:
        return {"value": value, "low": value - width, "high": value + width}

    made = []
    for share, gain in ((0.1, 0.9), (1.0, 0.38)):
        base = {"target": "gear", "share": share, "seeds": [0, 1], "seconds": 61.0 * share}
        base |= {"events": int(6000 * share), "alone": 0.04, "gate_weight": 1.0}
        made.append(base | {"transferred": change(gain), "gated": change(gain)})
        for control, kept in (("shuffled-text", 0.97), ("random-overlap", 0.02)):
            taken = {"lost": change(gain * (1 - kept)), "transferred": change(gain * kept)}
            made.append(base | {"control": control} | taken)
    flat = {"target": "films", "share": 1.0, "seeds": [0, 1], "seconds": 9.0, "events": 400}
    made += [
        flat | {"transferred": change(-0.01)},
        flat | {"control": "shuffled-text", "transferred": change(-0.02), "lost": change(0.01)},
    ]
    return made


def bare(**changes: Any) -> RunRecord:
    """Only what every run has."""
    fields: dict[str, Any] = {
        "name": "demo",
        "created": "2026-03-14 15:09",
        "split": "leave-one-out",
        "systems": [
            {"name": name, "role": role, "about": about} for name, (role, about) in SYSTEMS.items()
        ],
        "metrics": rows({"gear": 0.38, "films": -0.02}),
        "verdicts": [
            verdict("gear", ["books"], 0.38, 0.31, 0.45, 1.0, most_for="people new to gear"),
            verdict("films", ["books"], -0.01, -0.04, 0.02, 0.0),
        ],
        "cost": {"seconds": 161.4, "peak_rss_mb": 1432.0},
    }
    return RunRecord(**(fields | changes))


def full(**changes: Any) -> RunRecord:
    """Everything a record can hold, with titles that would break a careless page."""
    rng = np.random.default_rng(0)
    domain = ["books"] * 300 + ["gear"] * 300 + ["films"] * 200
    theme = rng.normal(size=(9, 2))[rng.integers(0, 9, 800)] * 2
    noise = rng.normal(scale=0.35, size=(800, 2))
    shift = np.repeat([[-4.0, 0.0], [4.0, 1.0], [0.0, -5.0]], [300, 300, 200], axis=0)
    epochs = list(range(1, 31))
    fields: dict[str, Any] = {
        "gates": [
            {
                "target": "gear", "weight": 1.0,
                "reason": "Open: on validation users the transferred model is ahead beyond chance.",
                "transferred": dict(zip(PARTS, [0.62, 0.18, 0.15, 0.05], strict=True)),
                "target_only": dict(zip(PARTS, [0.41, 0.33, 0.19, 0.07], strict=True)),
                "uplift": {"value": 0.36, "low": 0.27, "high": 0.44},
                "slices": SLICE_GATES,
            },
            {
                "target": "films", "weight": 0.0,
                "reason": "Shut: no gain beyond chance on validation users.",
                "transferred": dict(zip(PARTS, [0.4, 0.4, 0.1, 0.1], strict=True)),
                "target_only": dict(zip(PARTS, [0.42, 0.38, 0.1, 0.1], strict=True)),
                "uplift": {"value": -0.01, "low": -0.05, "high": 0.03},
            },
        ],
        "curves": [
            {
                "system": system, "domain": name, "epochs": epochs,
                "loss": [round(2 + 5 * np.exp(-e / (6 + i)), 4) for e in epochs],
                "validation": [
                    None if e % 2 else round(0.05 * (1 - 0.15 * i) * (1 - np.exp(-e / 8)), 5)
                    for e in epochs
                ],
            }
            for i, system in enumerate(["cross-domain", "target-only"])
            for name in ["gear", "films"]
        ],
        "examples": [
            {
                "user": "reader-0412", "target": "gear",
                "for_whom": "reads about coffee; new to gear",
                "history": [
                    {"domain": "books", "title": t, "category": c}
                    for t, c in [
                        ("The Patient Loaf", "baking"), ("A Field Guide to Espresso", "coffee"),
                        ("Water, Heat, Time: Brewing by Hand", "coffee"),
                        (HOSTILE[2], "coffee"), ("Roasting at Home", "coffee"),
                    ]
                ] + [{"domain": "films", "title": "Altitude", "category": "mountains"}],
                "recommendations": [
                    {
                        "title": t, "category": "coffee", "score": 2.4 - 0.3 * i, "chosen": i == 1,
                        "parts": {"neural": 1.2 - 0.2 * i, "co-occurrence": 0.1 * i,
                                  "text": 0.9 - 0.1 * i, "recent-popular": 0.05},
                        "why": why,
                    }
                    for i, (t, why) in enumerate([
                        ("Conical burr hand grinder", "Because of “A Field Guide to Espresso”."),
                        ("Gooseneck kettle, 1 litre", "Because of “Water, Heat, Time”."),
                        (HOSTILE[1], "Like what readers of “Roasting at Home” took."),
                        (HOSTILE[3], "Popular this week among readers about coffee."),
                        (HOSTILE[0], "Because of " + HOSTILE[0]),
                    ])
                ],
            },
            {
                "user": "<b>someone</b>", "target": "films", "for_whom": "nothing known",
                "history": [],
                "recommendations": [
                    {"title": HOSTILE[4], "score": 0.4, "why": "Popular; nothing else is known."}
                ],
            },
        ],
        "item_map": {
            "domain": domain,
            "title": [HOSTILE[i % 5] if i < 5 else f"{d} item {i}" for i, d in enumerate(domain)],
            "before": (theme * 0.3 + noise + shift).round(3).tolist(),
            "after": (theme + noise).round(3).tolist(),
            "distance_before": 0.81, "distance_after": 0.07,
        },
        "distances": [
            {
                "a": "books", "b": HOSTILE[0], "pairs": 1_234,
                "stages": {
                    "texts": {"mmd": 0.0391, "proxy_a": 1.97, "coral": 0.855, "pairs": 0.43,
                              "between": 0.09, "within": 0.16},
                    "learned": {"mmd": -0.0002, "coral": 0.2, "between": -0.001, "within": 0.01},
                },
            }
        ],
        "data": {
            "domains": [
                {"name": "books", "users": 3120, "items": 2400, "events": 48211,
                 "density": 0.0064, "first": "2023-01-02", "last": "2024-06-30",
                 "text_coverage": 1.0, "rating_scale": [1, 5]},
                {"name": "gear", "users": 1480, "items": 1800, "events": 6120, "density": 0.0023,
                 "text_coverage": 0.64, "dropped": {"null item id": 12, "unknown item": 3}},
            ],
            "pairs": [{"a": "books", "b": "gear", "shared_users": 1207, "text_similarity": 0.71}],
            "notes": ["gear: 36 % of items have no text; they start from behaviour alone."],
        },
        "cost": {
            "stages": [
                {"name": "load and check", "seconds": 2.1}, {"name": "encode texts", "seconds": 38},
                {"name": "train cross-domain", "seconds": 71.5},
                {"name": "train target-only", "seconds": 24.2},
                {"name": "baselines", "seconds": 14.9}, {"name": "evaluate", "seconds": 10.7},
            ],
            "seconds": 161.4, "peak_rss_mb": 1432.0, "parameters": 412_864, "device": "cpu",
        },
        "versions": {"isthmus": "0.1.0", "python": "3.12.3", "torch": "2.8.0", "polars": "1.31"},
        "config": {
            "name": "demo", "seed": 0, "target": None,
            "domains": {"books": {"interactions": "books.parquet", "keep_kinds": ["click", "buy"]}},
            "model": {"dim": 64, "dropout": 0.2, "use_ids": True},
        },
        "notes": ["The world is generated; it shows that the method works, not that yours will."],
    }  # fmt: skip
    return bare(**(fields | changes))
