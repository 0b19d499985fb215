"""Token states → one vector per text, and the model that ends in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.language.models import Pooling


def pool(states: Tensor, mask: Tensor, how: Pooling) -> Tensor:
    """Pool token states over the real tokens of right-padded texts.

    Args:
        states: [batch, length, dim].
        mask: [batch, length], 1 for real tokens; each text has at least one.
        how: mean of the real tokens, the first token, or the last real token.

    Returns:
        [batch, dim], in single precision or a higher one, where the states have that.
    """
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    if how == "cls":
        return states[:, 0]
    if how == "last":
        last = mask.sum(dim=1) - 1
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(dim=1) / weight.sum(dim=1)


class PooledModel(nn.Module):
    """A language model whose output is the pooled vector: [batch, length] twice → [batch, dim].

    With `hidden` layers, the means of theirs stand behind it: [batch, (1 + n_hidden) · dim].
    """

    def __init__(self, model: Any, how: Pooling, hidden: Sequence[int] = ()) -> None:
        super().__init__()
        self.model, self.how, self.hidden = model, how, tuple(hidden)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids and mask, int64 [batch, length] → [batch, dim], or wider."""
        asked = {"output_hidden_states": True} if self.hidden else {}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **asked)
        last = pool(found.last_hidden_state, attention_mask, self.how)
        if not self.hidden:
            return last
        below = [pool(found.hidden_states[i], attention_mask, "mean") for i in self.hidden]
        return torch.cat([last, *below], dim=1)
