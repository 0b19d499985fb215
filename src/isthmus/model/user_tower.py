"""The user tower: a packed history in, one state per event out.

A pre-norm causal transformer over the merged history of all domains. Tokens of a batch stand end
to end; only attention itself sees a padded view. Source of the architecture: SASRec (Kang and
McAuley 2018) with pre-norm blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isthmus.config import ModelConfig
from isthmus.model.dropout import Dropout
from isthmus.model.heads import borrow_head, domain_heads

N_GAPS = 16
"""Buckets of the time between two events; bucket b holds gaps of about 2^b hours, 0 unknown."""
GAP_ENDS = 3600 * (2.0 ** torch.arange(1, N_GAPS - 1, dtype=torch.float64) - 1)
"""Where a bucket ends and the next begins, in seconds."""


class Padding:
    """Where packed tokens stand in the padded view that attention needs.

    Args:
        offsets: int64 [n_windows + 1] packed offsets.
    """

    def __init__(self, offsets: Tensor) -> None:
        lengths = offsets.diff()
        self.n_windows = len(lengths)
        self.width = int(lengths.max()) if self.n_windows else 0
        window = torch.repeat_interleave(
            torch.arange(self.n_windows, device=offsets.device), lengths
        )
        self.place = torch.arange(len(window), device=offsets.device) - offsets[window]
        self.slot = window * self.width + self.place
        self.ends = offsets[1:] - 1
        self.lengths = lengths

    @property
    def filled(self) -> Tensor:
        """Where the padded view holds a token, bool [n_windows, width]."""
        return torch.arange(self.width, device=self.lengths.device) < self.lengths[:, None]

    def pad(self, packed: Tensor) -> Tensor:
        """[tokens, dim] → [n_windows, width, dim], zero where there is no token."""
        if self.n_windows == 1:
            return packed[None]
        padded = packed.new_zeros(self.n_windows * self.width, packed.shape[-1])
        return padded.index_copy_(0, self.slot, packed).view(self.n_windows, self.width, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """[n_windows, width, dim] → [tokens, dim]."""
        rows = padded.reshape(self.n_windows * self.width, -1)
        return rows if self.n_windows == 1 else rows.index_select(0, self.slot)


class Block(nn.Module):
    """Pre-norm causal attention, then a feed-forward layer, both residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm_attention = nn.LayerNorm(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.norm_feed = nn.LayerNorm(config.dim)
        self.up = nn.Linear(config.dim, config.feed * config.dim)
        self.down = nn.Linear(config.feed * config.dim, config.dim)
        self.dropout = Dropout(config.dropout)
        self.foreign: Tensor | None = None

    def forward(self, x: Tensor, padding: Padding, domain: Tensor | None = None) -> Tensor:
        """[tokens, dim] → [tokens, dim].

        With the `domain` [tokens] of each token, `foreign` then holds the share of attention that
        went to tokens of other domains, a scalar with a gradient.
        """
        if domain is not None:
            return self._feed(
                x + self.dropout(self._watch(self.norm_attention(x), padding, domain))
            )
        return self._feed(x + self.dropout(self._attend(self.norm_attention(x), padding)))

    def last(self, x: Tensor, padding: Padding) -> Tensor:
        """What `forward` gives at the last token of each window, [tokens, dim] → [n_windows, dim].

        Only those tokens ask; all others are merely seen.
        """
        dim = x.shape[1]
        normed, ends = self.norm_attention(x), padding.ends
        weight, bias = self.qkv.weight, self.qkv.bias
        query = F.linear(normed.index_select(0, ends), weight[:dim], bias[:dim])
        seen = padding.pad(F.linear(normed, weight[dim:], bias[dim:]))
        key, value = seen.view(padding.n_windows, padding.width, 2, self.heads, -1).permute(
            2, 0, 3, 1, 4
        )
        mixed = F.scaled_dot_product_attention(
            query.view(padding.n_windows, self.heads, 1, -1),
            key,
            value,
            attn_mask=padding.filled[:, None, None, :],
        )
        return self._feed(x.index_select(0, ends) + self.out(mixed.reshape(-1, dim)))

    def _feed(self, x: Tensor) -> Tensor:
        fed: Tensor = x + self.dropout(self.down(F.gelu(self.up(self.norm_feed(x)))))
        return fed

    def _heads(self, x: Tensor, padding: Padding) -> Tensor:
        """Queries, keys and values, [3, n_windows, heads, width, dim per head]."""
        qkv = padding.pad(self.qkv(x)).view(padding.n_windows, padding.width, 3, self.heads, -1)
        return qkv.permute(2, 0, 3, 1, 4)

    def _watch(self, x: Tensor, padding: Padding, domain: Tensor) -> Tensor:
        """What `_attend` gives, by way of the attention itself."""
        query, key, value = self._heads(x, padding)
        later = torch.ones(padding.width, padding.width, dtype=torch.bool, device=x.device).triu(1)
        logits = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(later, -torch.inf)
        attention = logits.softmax(-1)
        whose = padding.pad(domain[:, None].to(x.dtype)).squeeze(-1)
        other = (whose[:, :, None] != whose[:, None, :])[:, None]
        share = (attention * other).sum(-1).mean(1)
        self.foreign = share[padding.filled].mean()
        attended: Tensor = self.out(padding.pack((attention @ value).transpose(1, 2)))
        return attended

    def _attend(self, x: Tensor, padding: Padding) -> Tensor:
        # Padding stands after the tokens, so the causal mask alone keeps it out of their sight.
        query, key, value = self._heads(x, padding)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended: Tensor = self.out(padding.pack(mixed.transpose(1, 2)))
        return attended


class UserTower(nn.Module):
    """Histories → states.

    Args:
        n_domains: how many domains there are.
        config: sizes.
    """

    def __init__(self, n_domains: int, config: ModelConfig) -> None:
        super().__init__()
        self.max_length = config.max_length
        self.watched = False
        self.place = nn.Embedding(config.max_length, config.dim)
        self.domain = nn.Embedding(n_domains, config.dim)
        self.gap = nn.Embedding(N_GAPS, config.dim) if config.time_gaps else None
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.adapters = domain_heads(n_domains, config)
        for table in (self.place, self.domain, self.gap):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    def forward(self, items: Tensor, domain: Tensor, gap: Tensor, offsets: Tensor) -> Tensor:
        """States after each event.

        Args:
            items: float [tokens, dim] item vectors of the history.
            domain: int64 [tokens] domain of each event.
            gap: int64 [tokens] bucket of the time since the event before; see `gap_buckets`.
            offsets: int64 [n_windows + 1]; no window is longer than `max_length`.

        Returns:
            float [tokens, dim].
        """
        padding = Padding(offsets)
        x = self._enter(items, domain, gap, padding)
        for block in self.blocks:
            x = block(x, padding, domain if self.watched and self.training else None)
        states: Tensor = self.norm(x)
        return states

    def foreign_attention(self) -> Tensor:
        """Share of attention that went to events of other domains in the last `forward`.

        Mean over blocks, heads and events, a scalar with a gradient. It is looked at in training
        mode only, and only while `watched` is on.
        """
        shares = [block.foreign for block in self.blocks]
        return torch.stack(cast(list[Tensor], shares)).mean()

    def last(self, items: Tensor, domain: Tensor, gap: Tensor, offsets: Tensor) -> Tensor:
        """States after the last event of each window alone, float [n_windows, dim].

        Takes what `forward` takes, no window empty; half the work with two blocks.
        """
        padding = Padding(offsets)
        x = self._enter(items, domain, gap, padding)
        *before, final = self.blocks
        for block in before:
            x = block(x, padding)
        assert isinstance(final, Block)
        states: Tensor = self.norm(final.last(x, padding))
        return states

    def _enter(self, items: Tensor, domain: Tensor, gap: Tensor, padding: Padding) -> Tensor:
        x = items + self.place(padding.place) + self.domain(domain)
        if self.gap is not None:
            x = x + self.gap(gap)
        entered: Tensor = self.dropout(x)
        return entered

    def ask(self, states: Tensor, domain: int) -> Tensor:
        """Turn states [n, dim] into queries for the items of one domain, [n, dim]."""
        asked: Tensor = self.adapters[domain](states) if len(self.adapters) else states
        return asked

    @torch.no_grad()
    def borrow_reading(self, domain: int, sources: Sequence[int]) -> None:
        """Let a domain's events be read as, on average, those of other domains."""
        self.domain.weight[domain] = self.domain.weight[list(sources)].mean(0)

    def borrow_asking(self, domain: int, sources: Sequence[int]) -> None:
        """Let a domain be asked about as, on average, other domains."""
        if len(self.adapters):
            borrow_head(self.adapters[domain], [self.adapters[d] for d in sources])


def gap_buckets(time: Tensor, first: Tensor) -> Tensor:
    """Bucket of the time since the event before.

    Args:
        time: float64 [tokens] Unix seconds, NaN where unknown.
        first: bool [tokens] true at the first event of a window.

    Returns:
        int64 [tokens] in [0, N_GAPS); 0 where unknown or first.
    """
    gap = time - time.roll(1)
    bucket = torch.bucketize(gap, GAP_ENDS.to(time.device), right=True) + 1
    return bucket.masked_fill_(first | gap.isnan(), 0)
