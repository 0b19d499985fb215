"""Ranking distillation: a student learns the lists of a teacher, most from where that one is sure.

After each training event the teacher names the items that it finds likeliest next. The student's
loss, beside its own, is the cross-entropy to their shares; a question counts by the probability
that the teacher gives to its whole list.

Source of learning from a teacher's first ranks alone: Tang and Wang, "Ranking Distillation", KDD
2018. Weights by confidence: Cui et al., "Distillation Matters: Empowering Sequential Recommenders
to Match the Performance of Large Language Models" (DLLM2Rec), RecSys 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus.config import TrainingConfig
from isthmus.data.batches import PackedBatch, Windows
from isthmus.data.dataset import Events
from isthmus.model.core import CoreModel
from isthmus.training.next_item import Step
from isthmus.training.progress import progress

QUESTIONS = 512
"""Questions, about, whose scores of a whole catalogue exist at once."""


@dataclass(frozen=True)
class Lists:
    """What a teacher would have said in place of each training event.

    Attributes:
        item: int64 [n_events, k] flat rows of the likeliest items.
        share: float32 [n_events, k] of each in the list's probability; 0 for an item that ties
            with one left out.
        confidence: float32 [n_events] probability of the whole list, with mean 1 in each domain;
            0 where the teacher is not asked: an event that is nobody's next one, or in a domain
            that is not learnt.
    """

    item: NDArray[np.int64]
    share: NDArray[np.float32]
    confidence: NDArray[np.float32]


@torch.inference_mode()
def teacher_lists(
    teacher: CoreModel,
    events: Events,
    domains: Sequence[int],
    *,
    top: int,
    temperature: float,
    max_length: int,
) -> Lists:
    """Ask a teacher what comes next, at every event that a student is going to learn.

    Args:
        teacher: trained; it is not changed.
        events: the student's training events.
        domains: those that are learnt.
        top: length of a list.
        temperature: above 1 the shares within a list are more even.
        max_length: of the student's windows, so that both read the same history.
    """
    teacher.eval()
    device = teacher.items.table.device
    windows = Windows.cut(events, max_length)
    bounds = np.asarray(teacher.bounds)
    flat = bounds[events.domain.astype(np.int64)] + events.item
    catalogues = {d: teacher.catalogue(d) for d in domains}
    item = np.zeros((len(events), top), np.int64)
    share = np.zeros((len(events), top), np.float32)
    confidence = np.zeros(len(events))
    number = np.cumsum(windows.length) // QUESTIONS
    chunks = np.split(np.arange(len(number)), np.flatnonzero(np.diff(number)) + 1)
    with progress("asking the teacher", len(chunks)) as tick:
        for chunk in chunks:
            batch = windows.pack(chunk)
            if not len(batch.targets):
                continue
            states = teacher.states(
                teacher.item_vectors(torch.from_numpy(flat[batch.inputs]).to(device)),
                torch.from_numpy(events.domain[batch.inputs].astype(np.int64)).to(device),
                torch.from_numpy(events.time[batch.inputs]).to(device),
                torch.from_numpy(batch.offsets).to(device),
            )
            for d, catalogue in catalogues.items():
                where = np.flatnonzero(events.domain[batch.targets] == d)
                if not len(where):
                    continue
                queries = teacher.ask(states[torch.from_numpy(where).to(device)], d)
                found = _best(queries @ catalogue.T, top, temperature)
                at, width = batch.targets[where], found[0].shape[1]
                item[at, :width] = teacher.bounds[d] + found[0].cpu().numpy()
                share[at, :width] = found[1].cpu().numpy()
                confidence[at] = found[2].cpu().numpy()
            tick("")
    for d in domains:
        own = (events.domain == d) & (confidence > 0)
        if own.any():
            confidence[own] /= confidence[own].mean()
    return Lists(item, share, confidence.astype(np.float32))


def _best(logits: Tensor, top: int, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Items, their shares [n, at most `top`] and the list's probability [n]."""
    best = logits.topk(min(top + 1, logits.shape[1]), dim=1)
    value, item = best.values, best.indices
    if value.shape[1] > top:
        # Which of equals is left out would be the choice of their numbers.
        tied = value[:, :top] == value[:, top:]
        value, item = value[:, :top].masked_fill(tied, -torch.inf), item[:, :top]
    share = (value / temperature).softmax(1).nan_to_num(0.0)
    return item, share, (value.logsumexp(1) - logits.logsumexp(1)).exp()


class RankingDistillation(nn.Module):
    """An `ExtraLoss`: cross-entropy of the student to the teacher's lists.

    The rest of the catalogue is stood for by uniform negatives, as in `sampled_softmax`.

    Args:
        student: the model in training.
        lists: of the teacher, at the same events.
        events: the training events.
        config: `negatives` is read.
        weights: of each domain, [n_domains]; 0 where it is not learnt.
        strength: of this loss beside the student's own.
        mark: see `ExtraLoss`.
    """

    def __init__(
        self,
        student: CoreModel,
        lists: Lists,
        events: Events,
        config: TrainingConfig,
        *,
        weights: Sequence[float],
        strength: float,
        mark: str,
    ) -> None:
        super().__init__()
        # In a tuple, so that the student's weights are not taken for this module's own.
        self._student, self.lists, self.mark = (student,), lists, mark
        self.domain = events.domain.astype(np.int64)
        self.negatives, self.weights, self.strength = config.negatives, list(weights), strength
        self._drawn: dict[int, NDArray[np.int64]] = {}

    def rows(self, batch: PackedBatch, rng: np.random.Generator) -> NDArray[np.int64]:
        """Items of the lists and negatives of every domain that the batch asks about."""
        bounds = self._student[0].bounds
        asked = [d for d in np.unique(self.domain[batch.targets]).tolist() if self.weights[d] > 0]
        self._drawn = {d: rng.integers(bounds[d], bounds[d + 1], self.negatives) for d in asked}
        at = batch.targets[self.lists.confidence[batch.targets] > 0]
        return np.concatenate([self.lists.item[at].reshape(-1), *self._drawn.values()])

    def forward(self, step: Step) -> Tensor:
        """Sum over domains of the weighted mean over questions, a scalar in nats."""
        targets = step.batch.targets
        total = step.states.new_zeros((), dtype=torch.float32)
        for d, negatives in self._drawn.items():
            asked = self.domain[targets] == d
            where = np.flatnonzero(asked & (self.lists.confidence[targets] > 0))
            if len(where):
                losses = self._losses(step, d, where, targets[where], negatives)
                total = total + self.weights[d] * losses.sum() / int(asked.sum())
        return self.strength * total

    def _losses(
        self,
        step: Step,
        domain: int,
        where: NDArray[np.int64],
        at: NDArray[np.int64],
        negatives: NDArray[np.int64],
    ) -> Tensor:
        """Loss of each question, times the teacher's confidence, [n]."""
        model, device = self._student[0], step.states.device
        item = torch.from_numpy(self.lists.item[at]).to(device)
        drawn = torch.from_numpy(negatives).to(device)
        share = torch.from_numpy(self.lists.share[at]).to(device)
        confidence = torch.from_numpy(self.lists.confidence[at]).to(device)
        queries = model.ask(step.states.index_select(0, torch.from_numpy(where).to(device)), domain)
        place = torch.searchsorted(step.rows, item.reshape(-1))
        listed = step.vectors.index_select(0, place).view(*item.shape, -1)
        logits = (listed @ queries[:, :, None]).squeeze(2).float()
        # An item that ties is left out of the list: it stands among all others then.
        logits = logits.masked_fill(share == 0, -torch.inf)
        others = step.vectors.index_select(0, torch.searchsorted(step.rows, drawn))
        rest = (queries @ others.T).float()
        size = model.bounds[domain + 1] - model.bounds[domain]
        # Drawn from all items: those on the list, which are masked below, leave their share out.
        rest = rest + math.log(size / len(negatives))
        different, which = torch.unique(drawn, return_inverse=True)
        at_negative = torch.searchsorted(different, item).clamp(max=len(different) - 1)
        hit = (different[at_negative] == item) & (share > 0)
        hits = torch.zeros(len(item), len(different), dtype=torch.int8, device=device)
        listed_too = hits.scatter_add_(1, at_negative, hit.to(torch.int8))[:, which] > 0
        rest = rest.masked_fill(listed_too, -torch.inf)
        whole = torch.logaddexp(logits.logsumexp(1), rest.logsumexp(1))
        told = torch.where(share > 0, share * logits, 0.0).sum(1)
        return confidence * (whole - told)
