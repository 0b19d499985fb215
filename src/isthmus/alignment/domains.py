"""Feature alignment over any number of domains: text vectors in, what the item tower reads out.

The configured maps are applied in turn. One domain, the anchor, stands still, and every other is
brought to it; whitening alone is done to the anchor as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from isthmus.alignment.features import shared_axes
from isthmus.alignment.pairs import Pairs, matched_texts, pairs_between, read_pairs
from isthmus.config import AlignmentConfig, Config
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.errors import ConfigError, DataError, did_you_mean
from isthmus.settings import asked_for, component

Vectors = NDArray[np.float32]

MAPS = {
    "whiten": "isthmus.alignment.features:DomainWhitening",
    "coral": "isthmus.alignment.coral:Coral",
    "procrustes": "isthmus.alignment.procrustes:Procrustes",
    "sinkhorn": "isthmus.alignment.transport:Sinkhorn",
}
_KEY = "alignment.features"


class FeatureMap(Protocol):
    """A map of one domain's vectors to where another's are.

    Its class has a class method `fit(a, b, pairs=None)` that finds it from `a` [n, d], `b` [m, d]
    and int64 [p, 2] rows that belong together. `fit` may ask by name for any of `dim`, `basis`,
    `axes`, `shrinkage`, `epsilon`, `points`. Class attributes, where it has them: `needs_pairs`,
    and `moves_anchor` for a map that the anchor is put through as well.
    """

    def transform(self, vectors: Vectors) -> Vectors:
        """Vectors of the first domain [n, d] → float32 [n, out]."""
        ...


@dataclass(frozen=True)
class _Step:
    """One map of the list: its class, what `fit` asked for, and the anchor before it."""

    kind: Any
    asked: dict[str, Any]
    anchor: Vectors

    @property
    def needs_pairs(self) -> bool:
        """Whether it is found from pairs of items."""
        return bool(getattr(self.kind, "needs_pairs", False))

    @property
    def moves_anchor(self) -> bool:
        """Whether the anchor takes the step as well."""
        return bool(getattr(self.kind, "moves_anchor", False))

    def fit(self, rows: Vectors, pairs: Pairs | None) -> FeatureMap:
        """The map of `rows` [n, d] to the anchor."""
        fitted: FeatureMap = self.kind.fit(rows, self.anchor, pairs, **self.asked)
        return fitted


@dataclass(frozen=True)
class FeatureAlignment:
    """Aligned domains, and what it takes to bring another one to them.

    Attributes:
        features: aligned vectors per domain, entries of about unit size; rows without a text are
            zero and masked.
        anchor: index of the domain that stood still.
    """

    features: list[ItemFeatures]
    anchor: int
    _steps: list[_Step]
    _raw: Vectors
    _settings: AlignmentConfig
    _maps: list[list[FeatureMap]]

    @classmethod
    def fit(
        cls,
        raw: Sequence[ItemFeatures],
        config: Config,
        dataset: Dataset | None = None,
        *,
        pairs: Mapping[int, Pairs] | None = None,
    ) -> Self:
        """Bring all domains to the anchor.

        Args:
            raw: vectors as the language model gives them, one per domain and of one width.
            config: `alignment` and `language.whiten_dim` are read.
            dataset: names the domains and items of `alignment.anchor` and `alignment.pairs`.
            pairs: by domain, items of it and of the anchor that belong together, int64 [p, 2];
                where one is not given: as configured.

        Raises:
            ConfigError: a map that cannot be found or used, or a single domain and a map that
                takes two.
            DataError: a domain without any text or pair, for a map that needs it.
        """
        anchor = anchor_domain(raw, config, dataset)
        rows = [f.vectors[f.present] for f in raw]
        done = cls([], anchor, [], rows[anchor], config.alignment, [[] for _ in raw])
        if not any(map(len, rows)):
            # Nothing to align; as wide as whitened texts would be.
            width = min(config.language.whiten_dim, raw[0].dim)
            done.features.extend(ItemFeatures(f.vectors[:, :width], f.present) for f in raw)
            return done
        kinds = usable_maps(config, len(raw))
        for name, kind in zip(config.alignment.features, kinds, strict=True):
            if not getattr(kind, "moves_anchor", False) and not len(rows[anchor]):
                raise no_text(_name(anchor, dataset), name)
            step = _step(kind, rows, anchor, config)
            joined: dict[int, Pairs | None] = dict.fromkeys(range(len(raw)))
            for d in range(len(raw)):
                if d == anchor or step.moves_anchor:
                    continue
                if not len(rows[d]):
                    raise no_text(_name(d, dataset), name)
                if step.needs_pairs:
                    found = (pairs or {}).get(d)
                    if found is None:
                        found = item_pairs(raw, config, dataset, d, anchor)
                    joined[d] = pairs_of_texts(found, raw[d], raw[anchor])
            for d, x in enumerate(rows):
                if len(x) and (d != anchor or step.moves_anchor):
                    fitted = step.fit(x, joined[d])
                    rows[d] = fitted.transform(x)
                    done._maps[d].append(fitted)
            done._steps.append(step)
        width = next(x.shape[1] for x in rows if len(x))
        done.features.extend(_scattered(x, f, width) for x, f in zip(rows, raw, strict=True))
        return done

    def extend(self, domain: int, raw: ItemFeatures) -> ItemFeatures:
        """Put further items of a domain through its own maps; nothing is fitted again.

        Items of a domain that had no text at all, so that it has no maps, stay without one.

        Args:
            domain: index of the domain.
            raw: vectors of the further items as the language model gives them.
        """
        width = self.features[domain].dim
        if not self.features[domain].present.any():
            nothing = np.zeros((len(raw), width), np.float32)
            return ItemFeatures(nothing, np.zeros(len(raw), bool))
        rows = raw.vectors[raw.present]
        for fitted in self._maps[domain]:
            rows = fitted.transform(rows)
        return _scattered(rows, raw, width)

    def join(self, raw: ItemFeatures, pairs: Pairs | None = None) -> ItemFeatures:
        """Another domain, brought to the anchor; see `with_domain`."""
        return self.with_domain(raw, pairs).features[-1]

    def with_domain(self, raw: ItemFeatures, pairs: Pairs | None = None) -> Self:
        """The same with another domain at the end; those here before stay as they are.

        Args:
            raw: its vectors as the language model gives them.
            pairs: items of it and of the anchor that belong together; None: those whose texts are
                each other's nearest.

        Raises:
            DataError: it has no text, or nothing pairs, and a map needs it.
        """
        rows = raw.vectors[raw.present]
        maps: list[FeatureMap] = []
        if not len(rows):
            nothing = _scattered(rows, raw, self.features[self.anchor].dim)
            return self._with(nothing, maps)
        if pairs is None and any(step.needs_pairs for step in self._steps):
            pairs = matched_texts(rows, self._raw, cosine=self._settings.pair_cosine)
        elif pairs is not None:
            pairs = pairs_of_texts(pairs, raw, self.features[self.anchor])
        for step in self._steps:
            fitted = step.fit(rows, pairs if step.needs_pairs else None)
            rows = fitted.transform(rows)
            maps.append(fitted)
        return self._with(_scattered(rows, raw, rows.shape[1]), maps)

    def _with(self, features: ItemFeatures, maps: list[FeatureMap]) -> Self:
        return replace(self, features=[*self.features, features], _maps=[*self._maps, maps])


def align_features(
    raw: Sequence[ItemFeatures], config: Config, dataset: Dataset | None = None
) -> list[ItemFeatures]:
    """Text vectors of every domain, aligned as configured; see `FeatureAlignment.fit`."""
    return FeatureAlignment.fit(raw, config, dataset).features


def features_apart(raw: Sequence[ItemFeatures], config: Config) -> list[ItemFeatures]:
    """Every domain whitened in its own axes, with nothing known of the others."""
    plain = {"features": ["whiten"], "basis": "own", "anchor": None}
    own = config.alignment.model_copy(update=plain)
    return align_features(raw, config.model_copy(update={"alignment": own}))


def anchor_domain(
    raw: Sequence[ItemFeatures],
    config: Config,
    dataset: Dataset | None = None,
    among: Sequence[int] | None = None,
) -> int:
    """Index of the domain that stands still: the configured one, or the one with the most texts.

    Args:
        raw: text vectors per domain.
        config: names it, or does not.
        dataset: names of the domains; the first of them by name decides between equals.
        among: the domains to choose from; None: all.

    Raises:
        ConfigError: the configured one does not exist.
    """
    among = range(len(raw)) if among is None else among
    names = [str(d) for d in range(len(raw))] if dataset is None else dataset.names
    wanted = config.alignment.anchor
    if wanted is not None and wanted not in names:
        raise unknown_anchor(wanted, names)
    if wanted is not None and names.index(wanted) in among:
        return names.index(wanted)
    return min(among, key=lambda d: (-int(raw[d].present.sum()), -len(raw[d]), names[d]))


def unknown_anchor(wanted: str, names: Sequence[str]) -> ConfigError:
    """What is said where the configured anchor does not exist."""
    return ConfigError(
        f"{wanted!r} is no domain", where="alignment.anchor", hint=did_you_mean(wanted, names)
    )


def item_pairs(
    raw: Sequence[ItemFeatures], config: Config, dataset: Dataset | None, a: int, b: int
) -> Pairs:
    """Items of two domains that belong together; see `find_pairs`.

    Returns:
        Local item indices, int64 [p, 2], at least one row.

    Raises:
        DataError: there is none.
    """
    found = find_pairs(raw, config, dataset, a, b)
    if len(found):
        return found
    must_be_pairable(raw, config, dataset, a, b)
    settings, names = config.alignment, [_name(d, dataset) for d in (a, b)]
    raise DataError(
        f"no text of {names[0]!r} and none of {names[1]!r} are each other's nearest with a "
        f"cosine of {settings.pair_cosine:g}",
        where="alignment.pair_cosine",
        hint="Lower it, or give a file of pairs as alignment.pairs",
    )


def must_be_pairable(
    texts: Sequence[ItemFeatures], config: Config, dataset: Dataset | None, a: int, b: int
) -> None:
    """Raise DataError where nothing can join two domains, whatever their texts say.

    Args:
        texts: which items have one; vectors are not looked at.
        config: `alignment.pairs` is read.
        dataset: names of the domains and items.
        a, b: indices of the domains.
    """
    path, names = config.alignment.pairs, [_name(d, dataset) for d in (a, b)]
    if path is None:
        for d, name in zip((a, b), names, strict=True):
            if not texts[d].present.any():
                raise no_text(name, "pairing by text")
    elif dataset is not None and not len(pairs_between(read_pairs(path, dataset), a, b)):
        raise DataError(
            f"no pair joins {names[0]!r} and {names[1]!r}",
            where=str(path),
            hint="Add some, or take out what needs them",
        )


def find_pairs(
    raw: Sequence[ItemFeatures], config: Config, dataset: Dataset | None, a: int, b: int
) -> Pairs:
    """Pairs of items of two domains, from the configured file or by their texts.

    Returns:
        Local item indices, int64 [p, 2]; none where nothing joins the two.

    Raises:
        DataError: a file that cannot be read, or that names what the dataset does not hold.
        ConfigError: a file is configured, and there is no dataset to look its ids up in.
    """
    settings = config.alignment
    if settings.pairs is not None:
        if dataset is None:
            raise ConfigError(
                "a file of pairs needs a dataset to look ids up in", where="alignment.pairs"
            )
        return pairs_between(read_pairs(settings.pairs, dataset), a, b)
    held = [np.flatnonzero(raw[d].present) for d in (a, b)]
    one, other = (raw[d].vectors[h] for d, h in zip((a, b), held, strict=True))
    matched = matched_texts(one, other, cosine=settings.pair_cosine)
    return np.column_stack([held[0][matched[:, 0]], held[1][matched[:, 1]]])


def pairs_of_texts(pairs: Pairs, one: ItemFeatures, other: ItemFeatures) -> Pairs:
    """Pairs of items as pairs of rows among the items with a text; others are left out."""
    rows = np.column_stack([_place(one.present)[pairs[:, 0]], _place(other.present)[pairs[:, 1]]])
    return rows[(rows >= 0).all(1)]


def map_class(name: str) -> Any:
    """The class of a feature map by name or dotted path; a ConfigError where it is none."""
    kind = component(name, MAPS, where=_KEY)
    fit: Any = getattr(kind, "fit", None)
    bound = callable(fit) and getattr(fit, "__self__", None) is kind
    if not (bound and hasattr(kind, "transform")):
        raise ConfigError(
            f"{name!r} has no class method 'fit' or no 'transform'",
            where=_KEY,
            hint="A map is a class with fit(a, b, pairs=None) and transform(vectors)",
        )
    return kind


def usable_maps(config: Config, n_domains: int) -> list[Any]:
    """Classes of the configured maps; a ConfigError where one takes two domains, and one is all."""
    kinds = [map_class(name) for name in config.alignment.features]
    for name, kind in zip(config.alignment.features, kinds, strict=True):
        if n_domains == 1 and not getattr(kind, "moves_anchor", False):
            raise ConfigError(
                f"{name!r} brings one domain to another, and there is one domain",
                where=_KEY,
                hint="Leave it out, or add a domain",
            )
    return kinds


def _step(kind: Any, rows: Sequence[Vectors], anchor: int, config: Config) -> _Step:
    settings, dim = config.alignment, config.language.whiten_dim
    offered: dict[str, Any] = {
        "dim": dim,
        "basis": settings.basis,
        "shrinkage": settings.shrinkage,
        "epsilon": settings.epsilon,
        "points": settings.points,
        "axes": None,
    }
    if settings.basis == "shared" and "axes" in asked_for(kind.fit, offered):
        offered["axes"] = shared_axes(rows, dim)
    return _Step(kind, asked_for(kind.fit, offered), rows[anchor])


def _place(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Row of each item among those with a text, -1 where it has none."""
    return np.where(present, np.cumsum(present) - 1, -1)


def _scattered(rows: Vectors, raw: ItemFeatures, width: int) -> ItemFeatures:
    """Rows scaled to length √width, at the places of the items that have a text."""
    vectors = np.zeros((len(raw), width), np.float32)
    if not len(rows):
        return ItemFeatures(vectors, raw.present)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    # Whitened vectors have length 1 already.
    if np.abs(length - 1).max() > 1e-5:
        rows = rows / np.maximum(length, np.finfo(np.float32).tiny)
    vectors[raw.present] = rows * np.float32(width**0.5)
    return ItemFeatures(vectors, raw.present)


def _name(domain: int, dataset: Dataset | None) -> str:
    return str(domain) if dataset is None else dataset.names[domain]


def no_text(domain: str, what: str) -> DataError:
    """What is said where `what` needs texts, and a domain has none."""
    return DataError(
        f"no item of {domain!r} has a text, and {what} needs texts",
        where=f"domains.{domain}",
        hint="Map its text columns under 'catalogue', or take out what needs them",
    )
