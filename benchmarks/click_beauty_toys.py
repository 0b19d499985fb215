"""AUC of told clicks on Beauty and Toys, beside logistic regressions. Prints figures as JSON.

    python benchmarks/click_beauty_toys.py [--epochs N] [--language] [--seed N] [--out FILE]

A pair is a person's last item (class 1), or an item drawn for them by popularity: the last item
of somebody else in the same group that they never had (class 0). People are split by a hash: 60 %
are learnt from, 10 % teach the head, 10 % stop it, 20 % are asked. Both regressions learn from the
pairs of the first 70 %, see person, item and how they agree (the product of both, and their
cosine), and have their penalty chosen on the 10 %: one on frozen MiniLM vectors, the person's being
the mean of their history, one on TF-IDF of the same texts. Required: the head's AUC above both.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from isthmus import Config, Recommender, build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split, user_hash
from isthmus.evaluation.labels import auc, log_loss
from isthmus.evaluation.significance import percentiles
from isthmus.scoring import Requests
from isthmus.tasks.examples import Examples, Role, against_drawn
from isthmus.tasks.texts import PairTexts

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DOMAINS = ("beauty", "toys")
ENDS = (0.6, 0.7, 0.8)
PENALTIES = (0.01, 0.1, 1.0, 10.0)
Values = NDArray[np.float64]


def configuration(data: Path, epochs: int, seed: int) -> Config:
    folder = data / "amazon-beauty-toys-games"
    domains = {
        name: {
            "interactions": str(folder / f"{name}.interactions.parquet"),
            "items": str(folder / f"{name}.items.parquet"),
            "events": {"order": "position"},
            "catalogue": {"title": "title", "category": "category"},
        }
        for name in DOMAINS
    }
    training = {"epochs": epochs, "threads": 1, "stopping_questions": 1000}
    return Config.model_validate({"seed": seed, "domains": domains, "training": training})


def by_person(dataset: Dataset) -> Split:
    """Everything of some people is learnt from; of the others the last item is asked for."""
    group = np.searchsorted(ENDS, user_hash(dataset.user_ids.to_list(), "click"), side="right")
    offsets = dataset.events.offsets
    last = offsets[1:] - 1
    asked = np.diff(offsets) >= 3
    stopping, tuning, test = (Queries(last[asked & (group == g)]) for g in (1, 2, 3))
    return Split("leave-one-out", group[dataset.events.user] == 0, stopping, tuning, test)


def learnt_pairs(dataset: Dataset, split: Split, seed: int) -> Examples:
    """Pairs of the people that are learnt from, made in the same way; for the regressions."""
    offsets = dataset.events.offsets
    last = offsets[1:] - 1
    own = last[(np.diff(offsets) >= 3) & split.in_train[last]]
    whole = Split("leave-one-out", split.in_train, Queries(own), split.tuning, split.test)
    return against_drawn(dataset, whole, negatives=1, seed=seed).of(Role.TRAIN)


def joined(*parts: Examples) -> Examples:
    names = ("user", "end", "domain", "item", "time", "label", "role")
    return Examples(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        classes=parts[0].classes,
    )


def by_vectors(dataset: Dataset, raw: list[Any]) -> Callable[[Examples], Any]:
    """Mean vector of the history, vector of the item, their product and cosine."""
    vectors = np.concatenate([features.vectors for features in raw])
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def features(examples: Examples) -> Any:
        asked = Requests.until(
            dataset, examples.user, examples.end, query_time=examples.time, max_history=50
        )
        rows = dataset.flat(asked.domain, asked.item)
        shape = (len(asked), len(rows))
        ones = np.ones(len(rows), np.float32)
        person = sp.csr_matrix((ones, np.arange(len(rows)), asked.offsets), shape) @ vectors[rows]
        person /= np.maximum(np.linalg.norm(person, axis=1, keepdims=True), 1e-9)
        item = vectors[dataset.item_offsets[examples.domain] + examples.item]
        both = person * item
        return np.column_stack([person, item, both * 10, both.sum(1, keepdims=True) * 10])

    return features


def by_words(dataset: Dataset) -> Callable[[Examples], Any]:
    """TF-IDF of the history's texts and of the item's, their product and cosine."""
    texts = PairTexts(dataset, 50)
    vectoriser = TfidfVectorizer(min_df=2, sublinear_tf=True)
    vectoriser.fit([text for of in texts.of_items for text in of if text])

    def features(examples: Examples) -> Any:
        people, items = texts.of_pairs(examples)
        person = vectoriser.transform(people)
        item = vectoriser.transform([text or "" for text in items])
        both = person.multiply(item)
        cosine = sp.csr_matrix(both.sum(1))
        return sp.hstack([person, item, both * 10, cosine * 10]).tocsr()

    return features


def regression(
    features: Callable[[Examples], Any], learn: Examples, stop: Examples, test: Examples
) -> tuple[Values, dict[str, float]]:
    """Chances on the test pairs, with the penalty that is best on the pairs to stop by."""
    seen, held, asked = (features(some) for some in (learn, stop, test))
    fitted = {}
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=300).fit(seen, learn.label)
        chances = model.predict_proba(held)[:, 1]
        fitted[penalty] = (auc(stop.label == 1, chances), model)
    best = max(fitted, key=lambda c: fitted[c][0])
    return fitted[best][1].predict_proba(asked)[:, 1], {
        "C": best,
        "validation_auc": fitted[best][0],
    }


def told(recommender: Recommender, test: Examples) -> Values:
    chances = np.zeros(len(test))
    reader = recommender._reader("click")
    for d in np.unique(test.domain).tolist():
        rows = np.flatnonzero(test.domain == d)
        chances[rows] = recommender.taught["click"].tell(reader.read(test.take(rows)), d)[:, 1]
    return chances


def figures(test: Examples, chances: Values) -> dict[str, Any]:
    """AUC with its interval over people, by domain and over all; log loss."""
    true = test.label == 1
    rng = np.random.default_rng(0)
    people, place = np.unique(test.user, return_inverse=True)
    draws = []
    for _ in range(200):
        times = np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people))
        rows = np.repeat(np.arange(len(test)), times[place])
        draws.append(auc(true[rows], chances[rows]))
    low, high = percentiles(np.array(draws))
    return {
        "auc": round(auc(true, chances), 4),
        "auc_ci95": [round(low, 4), round(high, 4)],
        "log_loss": round(
            log_loss(test.label.astype(int), np.column_stack([1 - chances, chances])), 4
        ),
        **{
            f"auc_{name}": round(auc(true[test.domain == d], chances[test.domain == d]), 4)
            for d, name in enumerate(DOMAINS)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--language", action="store_true", help="tune a cross-encoder as well")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    start = time.perf_counter()
    config = configuration(args.data, args.epochs, args.seed)
    dataset, _ = build_dataset(config)
    split = by_person(dataset)
    # No target: nothing is ranked here, so no gate is set either.
    recommender = Recommender.fit(dataset, config, split=split, targets=[])
    recommender.teach("click")
    seconds = {"fit and teach": round(time.perf_counter() - start, 1)}

    examples = against_drawn(dataset, split, negatives=1, seed=args.seed)
    stop, test = examples.of(Role.VALIDATION), examples.of(Role.TEST)
    learn = joined(learnt_pairs(dataset, split, args.seed), examples.of(Role.TRAIN))
    answers = {"click head": told(recommender, test)}
    tuned = {}
    for name, features in (
        ("frozen vectors + logistic regression", by_vectors(dataset, recommender.raw)),
        ("TF-IDF + logistic regression", by_words(dataset)),
    ):
        answers[name], tuned[name] = regression(features, learn, stop, test)
    if args.language:
        start = time.perf_counter()
        encoder = recommender.teach_language("click")
        answers["cross-encoder"] = encoder.tell(*PairTexts(dataset, 5).of_pairs(test))[:, 1]
        seconds["cross-encoder"] = round(time.perf_counter() - start, 1)
    found = {
        "pairs": {"learnt by the regressions": len(learn), "asked": len(test)}
        | {f"of the head, {role.name.lower()}": len(examples.of(role)) for role in Role},
        "figures": {name: figures(test, chances) for name, chances in answers.items()},
        "regressions": tuned,
        "seconds": seconds,
    }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
