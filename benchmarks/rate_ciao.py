"""RMSE of told ratings on Ciao, beside biased matrix factorisation. Prints figures as JSON.

    python benchmarks/rate_ciao.py [--epochs N] [--seed N] [--head NAME] [--out FILE]

Reviews rated 1 to 5 in 28 categories, one domain each, cut in time at 80 % and 90 % of the events;
no texts. The baselines know the training part: the mean, shrunk means of people and items, and
biased matrix factorisation, whose factors and regularisation are chosen on validation. By the
project's protocol a question may use everything before it; so there is a baseline which keeps
both biases up to date, too, and the head is also asked with nothing but the training part. All
answer the same questions: people who rated something before. Required: below the tuned biased
matrix factorisation.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from isthmus import Config, Recommender, build_dataset
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Split
from isthmus.evaluation.labels import mae, rmse
from isthmus.evaluation.significance import paired
from isthmus.tasks.examples import Examples, Role, rated_events
from isthmus.tasks.facts import PRIOR, RatingFacts
from isthmus.tasks.reader import Reader
from isthmus.tasks.teach import Taught

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FACTORS, PENALTIES = (4, 8, 16), (3.0, 6.0, 12.0, 24.0)
Values = NDArray[np.float64]


def configuration(data: Path, epochs: int, seed: int) -> Config:
    """Every category is a domain."""
    ratings = data / "ciao-social" / "ratings.parquet"
    categories = (
        pl.read_parquet(ratings, columns=["category"])["category"].unique().sort().to_list()
    )
    domains = {
        f"c{category}": {
            "interactions": str(ratings),
            "events": {"time": "timestamp", "rating": "rating"},
            "only": {"category": [str(category)]},
        }
        for category in categories
    }
    return Config.model_validate(
        {
            "seed": seed,
            "domains": domains,
            "cleaning": {"rating_scale": [1, 5], "bad_rows": "drop"},
            "blend": {"parts": ["neural"]},
            "training": {"epochs": epochs, "threads": 1, "stopping_questions": 200},
        }
    )


class BiasedFactors:
    """mean + person's bias + item's bias + factors, by alternating least squares.

    Source: Koren, Bell and Volinsky, "Matrix factorization techniques", 2009. A penalty counts per
    vector; biases have their own.
    """

    def __init__(self, train: Examples, items: NDArray[np.int64], n_users: int, n_items: int):
        self.user, self.item, self.rating = train.user, items, train.label
        self.mean = float(train.label.mean())
        self.n_users, self.n_items = n_users, n_items

    def biases(self, k_user: float, k_item: float, rounds: int = 10) -> tuple[Values, Values]:
        """Shrunk means of people and items, in turn."""
        of_user, of_item = np.zeros(self.n_users), np.zeros(self.n_items)
        for _ in range(rounds):
            rest = self.rating - self.mean - of_user[self.user]
            of_item = shrunk(self.item, rest, self.n_items, k_item)
            rest = self.rating - self.mean - of_item[self.item]
            of_user = shrunk(self.user, rest, self.n_users, k_user)
        return of_user, of_item

    def factors(
        self, rest: Values, n: int, penalty: float, seed: int, rounds: int = 8
    ) -> tuple[Values, Values]:
        """Factors of what biases leave, [n_users, n] and [n_items, n]."""
        rng = np.random.default_rng(seed)
        of_item = rng.normal(0, 0.1, (self.n_items, n))
        of_user = np.zeros((self.n_users, n))
        for _ in range(rounds):
            of_user = solved(self.user, of_item[self.item], rest, self.n_users, penalty)
            of_item = solved(self.item, of_user[self.user], rest, self.n_items, penalty)
        return of_user, of_item


def shrunk(key: NDArray[np.int64], value: Values, n: int, k: float) -> Values:
    return np.asarray(np.bincount(key, value, n) / (np.bincount(key, minlength=n) + k))


def solved(
    key: NDArray[np.int64], features: Values, rest: Values, n: int, penalty: float
) -> Values:
    """Ridge regression of `rest` on `features` for each key."""
    width = features.shape[1]
    gram = np.zeros((n, width, width))
    for a in range(width):
        for b in range(a, width):
            gram[:, a, b] = np.bincount(key, features[:, a] * features[:, b], n)
            gram[:, b, a] = gram[:, a, b]
    gram += penalty * np.eye(width)
    right = np.column_stack([np.bincount(key, features[:, a] * rest, n) for a in range(width)])
    return np.asarray(np.linalg.solve(gram, right[..., None])[..., 0])


def factorised(
    dataset: Dataset, parts: dict[Role, Examples], seed: int
) -> tuple[dict[str, Values], dict[str, Any]]:
    """Test ratings of the shrunk means and of the factorisation, tuned on validation."""
    flat = {role: dataset.item_offsets[some.domain] + some.item for role, some in parts.items()}
    train = BiasedFactors(parts[Role.TRAIN], flat[Role.TRAIN], dataset.n_users, dataset.n_items)

    def told(role: Role, biases: tuple[Values, Values], factors: Any = None) -> Values:
        user, item = parts[role].user, flat[role]
        rating = train.mean + biases[0][user] + biases[1][item]
        if factors is not None:
            rating = rating + (factors[0][user] * factors[1][item]).sum(1)
        return np.asarray(rating.clip(1, 5))

    truth = parts[Role.VALIDATION].label
    tried = {
        (ku, ki): rmse(truth, told(Role.VALIDATION, train.biases(ku, ki)))
        for ku in (2.0, 5.0, 10.0, 20.0)
        for ki in (1.0, 2.0, 3.0, 5.0)
    }
    shrinkage = min(tried, key=tried.__getitem__)
    biases = train.biases(*shrinkage)
    rest = train.rating - train.mean - biases[0][train.user] - biases[1][train.item]
    grid = {}
    for n in FACTORS:
        for penalty in PENALTIES:
            found = train.factors(rest, n, penalty, seed)
            grid[n, penalty] = rmse(truth, told(Role.VALIDATION, biases, found))
    best = min(grid, key=grid.__getitem__)
    factors = train.factors(rest, *best, seed)
    answers = {
        "shrunk means": told(Role.TEST, biases),
        "biased matrix factorisation": told(Role.TEST, biases, factors),
    }
    return answers, {
        "shrinkage_user_item": shrinkage,
        "factors_penalty": best,
        "validation_rmse": round(grid[best], 4),
        "validation_rmse_by_setting": {f"{n}, {p:g}": round(v, 4) for (n, p), v in grid.items()},
    }


def means_of_the_day(reader: Reader, examples: Examples, k: float) -> Values:
    """Shrunk means of item and person over everything before each question."""
    facts = reader.ratings.at(examples, in_training=False).astype(np.float64)
    told = (
        reader.ratings.mean[examples.domain]
        + facts[:, 0] / (facts[:, 1] + PRIOR)
        + facts[:, 2] / (facts[:, 3] + k)
    )
    return np.asarray(told.clip(1, 5))


def by_head(taught: Taught, reader: Reader, examples: Examples) -> Values:
    told = np.zeros(len(examples))
    for d in np.unique(examples.domain).tolist():
        rows = np.flatnonzero(examples.domain == d)
        told[rows] = taught.tell(reader.read(examples.take(rows)), d)
    return told


def frozen(dataset: Dataset, split: Split, examples: Examples) -> tuple[RatingFacts, Examples]:
    """Facts and histories that end with training, for a like-for-like comparison."""
    events = dataset.events
    learnt = np.concatenate([[0], np.cumsum(split.in_train)])
    n_learnt = (learnt[events.offsets[1:]] - learnt[events.offsets[:-1]])[examples.user]
    end = events.offsets[examples.user] + n_learnt
    # Under this name nothing after the cut is known.
    facts = RatingFacts.of(dataset, replace(split, name="leave-one-out"))
    return facts, replace(examples, end=end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--head", default="squared")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)

    start = time.perf_counter()
    config = configuration(args.data, args.epochs, args.seed).override(
        f"tasks.rate.head={args.head}"
    )
    dataset, _ = build_dataset(config)
    # No target: nothing is ranked here, so no gate is set either.
    recommender = Recommender.fit(dataset, config, targets=[])
    fitted = time.perf_counter() - start
    taught = recommender.teach("rate")
    seconds = time.perf_counter() - start
    examples = rated_events(dataset, recommender.split)
    parts = {role: examples.of(role) for role in Role}
    reader = Reader("rate", dataset, recommender.split, recommender.system, config)
    answers, tuned = factorised(dataset, parts, args.seed)
    validation, test = parts[Role.VALIDATION], parts[Role.TEST]
    k = min(
        (2.0, 5.0, 10.0, 20.0),
        key=lambda k: rmse(validation.label, means_of_the_day(reader, validation, k)),
    )
    answers["training mean"] = np.full(len(test), parts[Role.TRAIN].label.mean())
    answers["shrunk means, up to the question"] = means_of_the_day(reader, test, k)
    answers["rate head"] = by_head(taught, reader, test)
    facts, still = frozen(dataset, recommender.split, test)
    reader.__dict__["ratings"] = facts
    answers["rate head, training part only"] = by_head(taught, reader, still)
    found = {
        "questions": len(test),
        "rmse": {name: round(rmse(test.label, told), 4) for name, told in answers.items()},
        "mae": {name: round(mae(test.label, told), 4) for name, told in answers.items()},
        "head_below_factorisation": {
            name: compared(test, answers[name], answers["biased matrix factorisation"])
            for name in ("rate head", "rate head, training part only")
        },
        "factorisation": tuned,
        "epochs_of_the_head": len(taught.log.epochs),
        "seconds": {"fit": round(fitted, 1), "fit and teach": round(seconds, 1)},
    }
    text = json.dumps(found, indent=1, ensure_ascii=False)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


def compared(test: Examples, told: Values, other: Values) -> dict[str, float]:
    """Difference of the mean squared errors, its interval over people."""
    errors = [(values - test.label) ** 2 for values in (told, other)]
    found = paired(errors[0], errors[1], test.user)
    return {
        "mse_difference": round(found.difference, 4),
        "ci_low": round(found.ci_low, 4),
        "ci_high": round(found.ci_high, 4),
    }


if __name__ == "__main__":
    main()
