"""A domain that joined learns from its first events, and serves by them as far as they help.

Only what belongs to the domain is trained: how its events are read, how questions about it are
asked, and the IDs of its items. Few events cannot tell a transformer anything that the other
domains' many have not told it better, and what is frozen cannot be forgotten, so nothing of the
others needs to be replayed. Co-occurrence and popularity count the events as they do everywhere.

Every event is a validation question too. People are put into folds, and each is asked by parts that
have not learnt what that fold did in the domain. Weights are fitted on the answers, and the gate
lets the outcome in only as far as it ranks better than the domain as it joined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.blend import Blend, FittedWeights, GateDecision, decide, fit_blend
from isthmus.blend.weights import NEWCOMER_QUESTIONS
from isthmus.config import Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Queries, Split, user_hash
from isthmus.model.core import CoreModel
from isthmus.model.learn import evidence, learn
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Requests, Scorer, Scores, pick
from isthmus.training.loop import Log
from isthmus.transfer.joining import counting, extended_model
from isthmus.transfer.sides import Joined, Side, fit_parts
from isthmus.transfer.system import System

FOLDS = 5
"""Into which people are put; with more, each asks a model that has learnt from more of the rest."""

ADAPTED = "adapted"


def adapt(
    system: System,
    dataset: Dataset,
    split: Split,
    raw: Sequence[ItemFeatures],
    config: Config,
    domain: int,
) -> System:
    """The system with one joined domain taught all its events so far.

    They are counted at once; what else they teach is let in as far as it can be judged and is
    better. It always starts from what the domain was when it joined, so that in one go or in
    several the same events lead to the same place.

    Args:
        system: fitted, and joined by the domain.
        dataset: the grown snapshot.
        split: of `dataset`; events of the domain are all to be learnt from.
        raw: text vectors as the language model gives them, of every domain.
        config: as the system was fitted; `blend.slice_users` is the least number of people to
            judge by.
        domain: index of the domain.
    """
    name = dataset.names[domain]
    course = _Course(system, dataset, split, raw, config, domain)
    counted = course.counted()
    questions = course.questions()
    n_people = len(np.unique(dataset.events.user[questions.position]))
    enough = n_people >= config.blend.slice_users
    taught = course.out_of_fold() if enough else {}
    fitted = _judged(taught, dataset, questions, domain, config) if enough else None
    if not course.told_apart:
        how = f"their parts weighed on {len(questions):,} questions" if enough else "unvalidated"
        gate = GateDecision(
            1.0, reason=f"No item of {name} has a text: only its events tell them apart, {how}."
        )
    elif fitted is None:
        gate = GateDecision(
            1.0,
            reason=f"{n_people} people with an event in {name} and one before it are too few to "
            f"judge by, it takes {config.blend.slice_users} (blend.slice_users): it is served as "
            "it joined, with part weights found on the other domains; what sold and what follows "
            "what is counted, with less weight than there.",
        )
        return system.with_joined(domain, Joined(counted), gate)
    else:
        prior = counted.blend.weights[domain], counted.blend.newcomers.get(domain)
        untaught = {k: counted.parts[k] if k == "neural" else part for k, part in taught.items()}
        before = _judged(untaught, dataset, questions, domain, config, given=prior)
        gate = decide(fitted, before, config.blend, target=name, what="adaptation")
    return system.with_joined(domain, Joined(counted, course.side(fitted, counted)), gate)


class _Course:
    """One domain's way from its events to parts that have learnt from them."""

    def __init__(
        self,
        system: System,
        dataset: Dataset,
        split: Split,
        raw: Sequence[ItemFeatures],
        config: Config,
        domain: int,
    ) -> None:
        self.system, self.raw, self.domain = system, raw, domain
        self.told_apart = bool(raw[domain].present.any())  # without any event
        self.arrived = system.joined[domain].arrived
        # What joined later stays unknown, to this side as it was to the one before.
        self.dataset = replace(dataset, domains=dataset.domains[: self.arrived.n_domains])
        self.split = split
        training = config.training.model_copy(update={"weight_decay": 0.0})
        self.config = config.model_copy(update={"training": training})
        salt = user_hash(dataset.user_ids.to_list(), "adaptation-fold")
        self.fold = np.floor(salt * FOLDS).astype(np.int64)
        self.own = split.in_train & (dataset.events.domain == domain)
        self.logs: dict[str, Log] = {}

    def questions(self) -> Queries:
        """Events of the domain with an earlier one of the same person, a fixed choice of many."""
        events, known = self.dataset.events, self.arrived.neural.reads
        read = np.concatenate([[0], np.cumsum(np.isin(events.domain, known))])
        at = np.flatnonzero(self.own)
        at = at[read[at] > read[events.offsets[events.user[at]]]]
        most = self.config.training.stopping_questions
        if len(at) > most:
            at = np.sort(np.random.default_rng(0).choice(at, most, replace=False))
        return Queries(at)

    def out_of_fold(self) -> dict[str, Scorer]:
        """Parts that answer everybody without having learnt what they did in the domain."""
        fold_of_event = self.fold[self.dataset.events.user]
        taught = [
            self.parts(~(self.own & (fold_of_event == k)), f"fold {k + 1} of {FOLDS}")
            for k in range(FOLDS)
        ]
        return {
            name: _OutOfFold(name, [parts[name] for parts in taught], self.fold)
            for name in self.arrived.parts
        }

    def counted(self) -> Side:
        """As it joined, with what sold and what follows what counted from all events."""
        before = self.arrived
        told = self._counting(self.split, before.neural)
        parts = {name: told.get(name, part) for name, part in before.parts.items()}
        n = int(self.own.sum()) if self.told_apart else None
        return counting(self.system, before, parts, self.domain, n)

    def side(self, fitted: FittedWeights | None, counted: Side) -> Side:
        """Learnt from everything; without fitted weights it keeps those of `counted`."""
        d, before = self.domain, counted.blend
        # What is counted of all events, `counted` has counted already.
        neural, parts = self.arrived.neural, dict(counted.parts)
        if "neural" in parts:
            parts["neural"] = neural = self._neural(self.split, "all events")
        weights, newcomers = before.weights[d], before.newcomers.get(d)
        if fitted is not None:
            weights, newcomers = fitted.weights, fitted.newcomer_weights
        special = {} if newcomers is None else {d: newcomers}
        blend = Blend(parts, {d: weights}, newcomers=special, name=ADAPTED)
        told = {} if fitted is None else {d: fitted}
        seconds = {f"train {name}": log.seconds for name, log in self.logs.items()}
        return Side(ADAPTED, neural, parts, blend, told, self.logs, seconds)

    def parts(self, learnt: NDArray[np.bool_], label: str) -> dict[str, Scorer]:
        """The parts after those of the training events where `learnt` [n_events] is true."""
        # In leave-one-out, what is not learnt is not looked up either.
        mask = self.split.in_train & learnt
        split = replace(self.split, name="leave-one-out", in_train=mask)
        neural, before = self.arrived.neural, self.arrived.parts
        if "neural" in before:
            neural = self._neural(split, label)
        taught = {"neural": neural, **self._counting(split, neural)}
        return {name: taught.get(name, part) for name, part in before.items()}

    def _counting(self, split: Split, neural: NeuralScorer) -> dict[str, Scorer]:
        """The parts that count the training events of `split`, read as `neural` reads."""
        # Texts are what they were; nothing is learnt of them from events.
        names = [name for name in self.arrived.parts if name not in ("neural", "text")]
        blend = self.config.blend.model_copy(update={"parts": names})
        return fit_parts(
            self.dataset,
            split,
            self.raw,
            neural,
            self.config.model_copy(update={"blend": blend}),
            reads=neural.reads,
            asks=neural.reads,
        )

    def _neural(self, split: Split, label: str) -> NeuralScorer:
        neural, d = self.arrived.neural, self.domain
        reads = neural.reads
        events = split.train_events(self.dataset).only(*reads)
        here = events.only(d)
        start, stop = self.dataset.item_offsets[d : d + 2]
        trusted = neural.model.items.evidence.cpu().numpy().copy()
        trusted[start:stop] = evidence(self.dataset, here)[start:stop]
        model = extended_model(
            self.system, self.dataset, split, d, len(self.dataset.domains), trusted
        )
        with _only(model, d):
            scorer, self.logs[label] = learn(
                model,
                self.dataset,
                split,
                self.config,
                reads=reads,
                weights=[float(other == d) for other in range(len(self.dataset.domains))],
                events=events.keep(np.isin(events.user, here.user)),
                label=f"adapting, {label}",
            )
        return scorer


class _OutOfFold:
    """One part for everybody: each person is answered by what their fold has not taught."""

    def __init__(self, name: str, scorers: Sequence[Scorer], fold: NDArray[np.int64]) -> None:
        self.name, self.scorers, self.fold = name, scorers, fold

    def score(
        self, requests: Requests, domain: int, items: NDArray[np.int64] | None = None
    ) -> Scores:
        """Score known users; see `Scorer`."""
        rows = [np.flatnonzero(self.fold[requests.user] == k) for k in range(len(self.scorers))]
        found = [
            scorer.score(requests.select(these), domain).total
            for scorer, these in zip(self.scorers, rows, strict=True)
        ]
        back = np.argsort(np.concatenate(rows))
        return Scores(pick(np.concatenate(found)[back], items))


def _judged(
    parts: Mapping[str, Scorer],
    dataset: Dataset,
    questions: Queries,
    domain: int,
    config: Config,
    *,
    given: tuple[Mapping[str, float], Mapping[str, float] | None] | None = None,
) -> FittedWeights:
    """What the questions say of the parts, first events in the domain by weights of their own.

    Args:
        parts: scorers by name.
        dataset: holds the questions' events.
        questions: all about `domain`.
        domain: its index.
        config: blend and protocol.
        given: weights that are only to be judged, for people known to the domain and for newcomers.
    """
    # Nobody needs to be asked again as a newcomer: in a new domain, most people are one.
    blend = config.blend.model_copy(update={"cold_share": 0.0})
    usual, special = given or (None, None)
    weighed = partial(
        fit_blend,
        parts,
        dataset,
        domain=domain,
        config=blend,
        batch=config.evaluation.batch,
        max_history=config.evaluation.max_history,
        seed=config.seed,
        exclude_seen=config.evaluation.exclude_seen,
    )
    fitted = weighed(questions, given=usual)
    new = fitted.own == 0
    enough = len(np.unique(fitted.user[new])) >= NEWCOMER_QUESTIONS
    if not (new.any() and (enough if given is None else special is not None)):
        return fitted
    first = weighed(questions.where(new), given=special)
    gain, deep_gain = fitted.gain.copy(), fitted.deep_gain.copy()
    gain[new], deep_gain[new] = first.gain, first.deep_gain
    return replace(fitted, gain=gain, deep_gain=deep_gain, newcomer_weights=first.weights)


@contextmanager
def _only(model: CoreModel, domain: int) -> Iterator[None]:
    """Let nothing learn but what belongs to one domain."""

    def own_row(gradient: Tensor) -> Tensor:
        kept = torch.zeros_like(gradient)
        kept[domain] = gradient[domain]
        return kept

    tables = (model.users.domain.weight, model.items.missing.weight)
    heads = set(model.users.adapters[domain].parameters()) if len(model.users.adapters) else set()
    still = [w for w in model.parameters() if w not in heads and all(w is not t for t in tables)]
    hooks = [table.register_hook(own_row) for table in tables]  # type: ignore[no-untyped-call]
    for weight in still:
        weight.requires_grad_(False)
    model.items.ids_learnt_of = (domain,)
    try:
        yield
    finally:
        model.items.ids_learnt_of = None
        for weight in still:
            weight.requires_grad_(True)
        for hook in hooks:
            hook.remove()
