"""What of a language model learns: nine methods, one module.

    full          everything
    last-layers   the last blocks
    adapter       a bottleneck behind every block (`blocks.py`)
    lora, dora    low-rank changes of attention matrices
    adalora       the same with ranks shared out where they matter
    ia3           factors on keys, values and the feed-forward layer
    prefix        learned keys and values in front of every block's own
    prompt        learned vectors in front of the text

The low-rank ones, IA³, prefix and prompt are `peft`'s. The tenth method, `side`, leaves the model
alone and learns a network on top of its cached vectors (`side.py`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.config import TuningConfig
from isthmus.errors import LanguageModelError
from isthmus.language.models import Pooling
from isthmus.language.pooling import pool
from isthmus.language.tuning.blocks import free_last_blocks, insert_adapters

MERGEABLE = frozenset({"full", "last-layers", "lora", "dora", "adalora", "ia3"})
"""Methods whose result is a plain model again."""

RATES = {
    "side": 2e-3,
    "full": 5e-5,
    "last-layers": 1e-4,
    "adapter": 1e-3,
    "lora": 1e-3,
    "dora": 1e-3,
    "adalora": 3e-3,
    "ia3": 1e-2,
    "prefix": 1e-2,
    "prompt": 1e-2,
}
"""Peak learning rates that suit the methods."""

_ORTHOGONALITY = 0.5  # weight of AdaLoRA's penalty, as in its paper


class Tunable(nn.Module):
    """A language model of which part can learn: token numbers → pooled vectors.

    Args:
        model: without its head; changed in place.
        pooling: how token states become a vector. States of virtual tokens never do.
        config: the method and its sizes.

    Attributes:
        settled: whether it has the size that it will be saved with; AdaLoRA has it once all ranks
            are shared out, after two thirds of the steps.
        in_front: states of virtual tokens before those of the text.
    """

    def __init__(self, model: Any, pooling: Pooling, config: TuningConfig) -> None:
        super().__init__()
        self.pooling, self.config = pooling, config
        base = {id(parameter) for parameter in model.parameters()}
        self.model = _wrapped(model, config)
        self._own = {
            name: parameter
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad or id(parameter) not in base
        }
        self.in_front = config.virtual_tokens if config.method == "prompt" else 0
        self.settled = config.method != "adalora"
        self._alive: dict[str, list[bool]] = {}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, int64 [batch, length] → [batch, dim]."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return pool(states[:, self.in_front :], attention_mask, self.pooling)

    def own(self) -> dict[str, nn.Parameter]:
        """What the base model does not have: tensors by name, shared with the module."""
        return self._own

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over tensors that `own` gave, of another domain or an earlier run.

        Raises:
            LanguageModelError: they are not of this method and these sizes.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if shapes != {name: tuple(tensor.shape) for name, tensor in self._own.items()}:
            raise LanguageModelError(
                f"the tuned weights do not fit method {self.config.method!r} with these sizes",
                where="tuning",
                hint="Load them with the settings they were tuned with",
            )
        for name, tensor in tensors.items():
            self._own[name].copy_(tensor)

    def trainable_share(self) -> float:
        """Parameters that learn, as a share of all."""
        sizes = [(int(p.numel()), bool(p.requires_grad)) for p in self.model.parameters()]
        return sum(n for n, learns in sizes if learns) / sum(n for n, _ in sizes)

    def penalty(self) -> Tensor | None:
        """AdaLoRA's part of the loss: how far its matrices are from orthogonal."""
        if self.config.method != "adalora":
            return None
        base = self.model.base_model
        if not base.peft_config[base.trainable_adapter_name].rank_pattern:
            self._alive = {
                name: (tensor != 0).view(-1).tolist()
                for name, tensor in base.model.named_parameters()
                if "lora_E" in name
            }
        penalties = [
            (square - torch.eye(len(square), device=square.device)).square().sum().sqrt()
            for name, matrix in self._own.items()
            if "lora_A" in name or "lora_B" in name
            for square in [matrix @ matrix.T if "lora_A" in name else matrix.T @ matrix]
        ]
        return _ORTHOGONALITY * torch.stack(penalties).mean()

    def after_step(self, done: int) -> None:
        """Share AdaLoRA's ranks out by the gradients of the step just made; `done` are made now.

        What is taken away is zero from here to the next step, so also where weights are judged,
        remembered and saved.
        """
        if self.config.method != "adalora":
            return
        base = self.model.base_model
        settings, shares = base.peft_config[base.trainable_adapter_name], base.rankallocator
        last = settings.total_step - settings.tfinal
        if done == last and not shares.exp_avg_ipt:  # nothing seen since a checkpoint was read
            shares.update_ipt(base.model)
        if done > last and not settings.rank_pattern:  # a checkpoint has zeros where ranks were
            settings.rank_pattern = self._alive
        base.update_and_allocate(done)
        self.settled = done >= last

    def merged(self) -> Any:
        """The plain model with what was learnt inside; this module must not be used any more.

        Raises:
            LanguageModelError: the method has no such form.
        """
        check_mergeable(self.config.method)
        if self.config.method in ("full", "last-layers"):
            return self.model
        return self.model.merge_and_unload()


def check_mergeable(method: str) -> None:
    """Refuse a method whose weights have no place in the plain model.

    Raises:
        LanguageModelError: it is one.
    """
    if method not in MERGEABLE:
        raise LanguageModelError(
            f"weights tuned by {method!r} cannot be merged into the model",
            where="tuning.method",
            hint=f"These can: {', '.join(sorted(MERGEABLE))}; the others are used with "
            "language.tuned = 'FOLDER'",
        )


def _wrapped(model: Any, config: TuningConfig) -> Any:
    """The model with the method's own parts, everything else frozen."""
    if config.method == "full":
        return model.requires_grad_(requires_grad=True)
    if config.method == "last-layers":
        free_last_blocks(model, config.last_layers)
        return model
    if config.method == "adapter":
        insert_adapters(model, int(model.config.hidden_size), config.bottleneck)
        return model
    with _quiet():
        import peft

        try:
            return peft.get_peft_model(model, _peft_config(peft, config))
        except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
            reason = (str(error).strip().splitlines() or [""])[0]
            raise LanguageModelError(
                f"{config.method!r} does not suit a model of type {model.config.model_type!r}: "
                f"{reason[:200]}",
                where="tuning.method",
                hint="Methods side, full, last-layers and adapter suit any model",
            ) from error


def _peft_config(peft: Any, config: TuningConfig) -> Any:
    task: dict[str, Any] = {"task_type": "FEATURE_EXTRACTION"}
    alpha = max(1, round(config.scale * config.rank))
    if config.method in ("lora", "dora"):
        dora = config.method == "dora"
        return peft.LoraConfig(**task, r=config.rank, lora_alpha=alpha, use_dora=dora)
    if config.method == "adalora":
        return peft.AdaLoraConfig(
            **task,
            init_r=config.rank + max(1, config.rank // 2),
            target_r=config.rank,
            lora_alpha=alpha,
            tinit=config.n_steps // 10,
            tfinal=config.n_steps // 3,
            deltaT=max(1, config.n_steps // 50),
            total_step=config.n_steps,
        )
    if config.method == "ia3":
        return peft.IA3Config(**task)
    kind = peft.PrefixTuningConfig if config.method == "prefix" else peft.PromptTuningConfig
    return kind(**task, num_virtual_tokens=config.virtual_tokens)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without peft's remarks on GPT-2's transposed matrices, which it then handles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
