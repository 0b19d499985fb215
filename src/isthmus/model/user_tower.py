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

N_GAPS = 16
"""Buckets of the time between two events; bucket b holds gaps of about 2^b hours, 0 unknown."""


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
        padded = packed.new_zeros(self.n_windows * self.width, packed.shape[-1])
        return padded.index_copy_(0, self.slot, packed).view(self.n_windows, self.width, -1)

    def pack(self, padded: Tensor) -> Tensor:
        """[n_windows, width, dim] → [tokens, dim]."""
        return padded.reshape(self.n_windows * self.width, -1).index_select(0, self.slot)


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

    def forward(self, x: Tensor, padding: Padding) -> Tensor:
        """[tokens, dim] → [tokens, dim]."""
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

    def _attend(self, x: Tensor, padding: Padding) -> Tensor:
        # Padding stands after the tokens, so the causal mask alone keeps it out of their sight.
        qkv = padding.pad(self.qkv(x)).view(padding.n_windows, padding.width, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        attended: Tensor = self.out(padding.pack(mixed.transpose(1, 2)))
        return attended


class DomainAdapter(nn.Module):
    """A low-rank correction of the state for one domain's question; zero at the start."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, rank, bias=False)
        self.up = nn.Linear(rank, dim, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[n, dim] → [n, dim]."""
        corrected: Tensor = x + self.up(self.down(x))
        return corrected

    @torch.no_grad()
    def borrow(self, others: Sequence[DomainAdapter]) -> None:
        """Become the mean of other corrections, as near as the rank allows."""
        mean = torch.stack([other.up.weight @ other.down.weight for other in others]).mean(0)
        left, size, right = torch.linalg.svd(mean)
        rank = len(self.down.weight)
        root = size[:rank].sqrt()
        self.up.weight.copy_(left[:, :rank] * root)
        self.down.weight.copy_(root[:, None] * right[:rank])


class UserTower(nn.Module):
    """Histories → states.

    Args:
        n_domains: how many domains there are.
        config: sizes.
    """

    def __init__(self, n_domains: int, config: ModelConfig) -> None:
        super().__init__()
        self.max_length = config.max_length
        self.place = nn.Embedding(config.max_length, config.dim)
        self.domain = nn.Embedding(n_domains, config.dim)
        self.gap = nn.Embedding(N_GAPS, config.dim) if config.time_gaps else None
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)
        self.adapters = nn.ModuleList(
            DomainAdapter(config.dim, config.adapter_rank)
            for _ in range(n_domains if config.adapter_rank else 0)
        )
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
            x = block(x, padding)
        states: Tensor = self.norm(x)
        return states

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
            adapters = cast(Sequence[DomainAdapter], self.adapters)
            adapters[domain].borrow([adapters[d] for d in sources])


def gap_buckets(time: Tensor, first: Tensor) -> Tensor:
    """Bucket of the time since the event before.

    Args:
        time: float64 [tokens] Unix seconds, NaN where unknown.
        first: bool [tokens] true at the first event of a window.

    Returns:
        int64 [tokens] in [0, N_GAPS); 0 where unknown or first.
    """
    gap = torch.diff(time, prepend=time[:1])
    bucket = torch.log2(gap.clamp(min=0) / 3600 + 1).floor().nan_to_num(-1).long() + 1
    return bucket.clamp(0, N_GAPS - 1).masked_fill(first, 0)
