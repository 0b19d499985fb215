"""Which validation questions weigh the parts of a blend, and judge it."""

from __future__ import annotations

from isthmus.config import BlendConfig
from isthmus.data.dataset import Dataset
from isthmus.data.splits import Queries, Split
from isthmus.evaluation.stopping import fixed_sample

MOST = 20_000
"""Questions about a domain. While parts are weighed each holds some 33 KB, so that these take two
thirds of a gigabyte, and of so many a further one moves neither a weight nor the gate."""


def judges(split: Split, dataset: Dataset, domain: int, config: BlendConfig) -> Queries:
    """The validation questions that weigh a blend and set the gate in `domain`.

    The half that stopped the training joins in where the other alone is too small to tell: it chose
    among epochs for both sides alike, and with a few hundred questions noise is the larger error.
    """
    about = dataset.events.domain[split.tuning.position] == domain
    enough = about.sum() >= config.enough_questions
    return no_more(split.tuning if enough else split.validation, dataset, domain)


def no_more(questions: Queries, dataset: Dataset, domain: int) -> Queries:
    """The questions, or of more than `MOST` about `domain` that many: the same for every side."""
    about = dataset.events.domain[questions.position] == domain
    return fixed_sample(dataset, questions, domain, MOST) if about.sum() > MOST else questions
