"""Masked and causal language modelling over texts of like length.

Masked: a share of the tokens is to be guessed; of these 80 % are masked, 10 % are some other token
and 10 % stay (Devlin et al., "BERT", NAACL 2019). Causal: each token is guessed from those before
it. The head runs only where something is to be guessed, which saves most of the time that a large
vocabulary takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.errors import LanguageModelError
from isthmus.language.learning import LanguageTask
from isthmus.language.tokens import Tokens, length_batches

Objective = Literal["mlm", "clm"]
_HEAD_ALONE: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # what was found of a model
_SAME = 1e-6  # of the largest logit: rounding, and less than a cap takes off a small one
_LIKE = 32  # batches' worth of texts that are sorted by length together


@dataclass(frozen=True)
class Guesses:
    """One batch.

    Attributes:
        ids: int64 [batch, length], what the model sees.
        mask: int64 [batch, length], 1 for real tokens.
        asked: bool [batch, length]; the states here are asked for `answers`.
        answers: int64 [n] tokens, in the order of `asked`.
    """

    ids: Tensor
    mask: Tensor
    asked: Tensor
    answers: Tensor


class Guesser:
    """Turns texts into batches of guesses.

    Args:
        objective: masked or causal.
        tokenizer: names special tokens and the mask.
        vocabulary: tokens there are.
        share: of the tokens to be guessed, masked only.

    Raises:
        LanguageModelError: masked, and the tokenizer has no mask.
    """

    def __init__(self, objective: Objective, tokenizer: Any, vocabulary: int, share: float) -> None:
        self.objective, self._vocabulary, self._share = objective, vocabulary, share
        self._mask = tokenizer.mask_token_id
        self._special = np.array(sorted(set(tokenizer.all_special_ids)), np.int64)
        if objective == "mlm" and self._mask is None:
            raise LanguageModelError(
                "its tokenizer has no mask token, so nothing can be masked",
                where="pretraining.objective",
                hint="Set it to 'clm', or name a model that was pretrained with masks",
            )

    def of(
        self, tokens: Tokens, rows: NDArray[np.int64], rng: np.random.Generator
    ) -> Guesses | None:
        """The guesses in some texts; None where there is nothing to guess."""
        ids, mask = tokens.padded(rows)
        if self.objective == "clm":
            asked = np.zeros(mask.shape, bool)
            asked[:, :-1] = mask[:, 1:] == 1
            answers = np.roll(ids, -1, axis=1)[asked]
        else:
            real = (mask == 1) & ~np.isin(ids, self._special)
            asked = real & (rng.random(ids.shape) < self._share)
            answers = ids[asked]
            how = rng.random(len(answers))
            other = rng.integers(self._vocabulary, size=len(answers))
            ids[asked] = np.where(how < 0.8, self._mask, np.where(how < 0.9, other, answers))
        if not len(answers):
            return None
        return Guesses(*(torch.from_numpy(part) for part in (ids, mask, asked, answers)))


def nats(model: Any, guesses: Guesses, device: torch.device) -> Tensor:
    """Cross-entropy of every guess, [n]."""
    ids, mask, asked = (part.to(device) for part in (guesses.ids, guesses.mask, guesses.asked))
    if model not in _HEAD_ALONE:
        _HEAD_ALONE[model] = _head_is_alone(model, ids[:1], mask[:1])
    if _HEAD_ALONE[model]:
        states = model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = _heads(model)[0](states[asked])
    else:
        logits = model(input_ids=ids, attention_mask=mask).logits[asked]
    return F.cross_entropy(logits.float(), guesses.answers.to(device), reduction="none")


def _heads(model: Any) -> list[Any]:
    return [module for module in model.children() if module is not model.base_model]


@torch.no_grad()
def _head_is_alone(model: Any, ids: Tensor, mask: Tensor) -> bool:
    """Whether one module makes the logits of states, and nothing scales or caps them after it.

    Heads in several pieces know best how they fit together.
    """
    heads, training = _heads(model), model.training
    if len(heads) != 1:
        return False
    model.eval()
    try:
        whole = model(input_ids=ids, attention_mask=mask).logits
        alone = heads[0](model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state)
        return bool((alone - whole).abs().max() <= _SAME * whole.abs().max())
    except (AttributeError, TypeError):  # its head gives more than logits, or asks for more
        return False
    finally:
        model.train(training)


class LanguageModelling(LanguageTask):
    """Learns to guess.

    Args:
        model: with its head.
        own: its tensors that learn.
        guesser: makes the guesses.
        tokens: of the training texts.
        batch_tokens: per step, after padding.
        steps: in all.
        device: where.
    """

    def __init__(
        self,
        model: nn.Module,
        own: Mapping[str, nn.Parameter],
        guesser: Guesser,
        tokens: Tokens,
        *,
        batch_tokens: int,
        steps: int,
        device: torch.device,
    ) -> None:
        super().__init__(model, own, steps, device)
        self._model, self._guesser, self._tokens = model, guesser, tokens
        self._batch_tokens = batch_tokens
        self._waiting: list[NDArray[np.int64]] = []

    def batches(self, rng: np.random.Generator) -> Iterator[Guesses]:
        """One stretch of batches; a run that goes on from its end draws the same next ones."""
        self._waiting.clear()
        return super().batches(rng)

    def batch(self, rng: np.random.Generator) -> Guesses:
        """The next texts of like length, drawn at random."""
        while True:
            if not self._waiting:
                mean = max(1.0, float(self._tokens.lengths.mean()))
                count = min(
                    len(self._tokens.lengths), max(1, int(_LIKE * self._batch_tokens / mean))
                )
                drawn = rng.permutation(len(self._tokens.lengths))[:count]
                batches = list(length_batches(self._tokens.lengths[drawn], self._batch_tokens))
                self._waiting = [drawn[batches[i]] for i in rng.permutation(len(batches))]
            guesses = self._guesser.of(self._tokens, self._waiting.pop(), rng)
            if guesses is not None:
                return guesses

    def loss(self, batch: Guesses, rng: np.random.Generator) -> Tensor:
        """Mean nats a guess."""
        return nats(self._model, batch, self.device).mean()


def held_out_nats(
    model: Any,
    guesser: Guesser,
    tokens: Tokens,
    *,
    batch_tokens: int,
    device: torch.device,
    seed: int = 0,
) -> float:
    """Mean nats a guess over held-out texts, the same guesses at every call.

    Raises:
        LanguageModelError: the texts hold nothing to guess.
    """
    rng = np.random.default_rng(seed)
    model.eval()
    found: list[Tensor] = []
    with torch.inference_mode():
        for rows in length_batches(tokens.lengths, batch_tokens):
            guesses = guesser.of(tokens, rows, rng)
            if guesses is not None:
                found.append(nats(model, guesses, device).cpu())
    if not found:
        raise LanguageModelError(
            "the held-out texts hold nothing to guess",
            where="pretraining.held_out",
            hint="Give it more texts, or raise pretraining.mask_share",
        )
    return float(torch.cat(found).double().mean())
