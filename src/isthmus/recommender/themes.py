"""What a handful of items is about, in words a person can read.

Categories name it where the catalogue has them, by the first two levels of their path. Elsewhere
the words of the titles do: the word that is shared by the most weight and rare in the catalogue
names a theme, and takes the items that hold it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log

from isthmus.data.dataset import Domain

LEVELS = 2
SEPARATOR = " > "
_WORD = re.compile(r"[^\W\d_]{3,}")
# Words that say how a thing is sold, not what it is; in other languages rarity alone must do.
_PLAIN = frozenset(
    _WORD.findall(
        "amp and bag bags bottle bottles box boxes can cans case count cup cups edition for free "
        "from gram grams inch inches kit large lid new ounce ounces pack packs package packages "
        "piece pieces pound pounds pouch pouches quart quot set sets size small the value variety "
        "volume with"
    )
)


@dataclass(frozen=True)
class Theme:
    """What some items have in common.

    Attributes:
        name: a category, a word of the titles, or the item's own title where it stands alone.
        members: places of the items in the list that was asked about.
    """

    name: str
    members: tuple[int, ...]


class Themes:
    """Names what items of one domain are about.

    Args:
        domain: whose items they are.
    """

    def __init__(self, domain: Domain) -> None:
        self.domain = domain

    def of(self, items: Sequence[int], weights: Sequence[float]) -> list[Theme]:
        """Themes of local item indices, heaviest first; each item belongs to exactly one.

        Args:
            items: local indices, [n].
            weights: how much each counts, [n].
        """
        named: dict[str, list[int]] = defaultdict(list)
        left = []
        for place, item in enumerate(items):
            if (category := self._categories[item]) is None:
                left.append(place)
            else:
                named[category].append(place)
        themes = [Theme(name, tuple(members)) for name, members in named.items()]
        themes += self._by_words(items, weights, left)
        weight = {t: sum(weights[place] for place in t.members) for t in themes}
        return sorted(themes, key=lambda t: (-weight[t], t.name))

    def shares(self, names: Sequence[str]) -> list[float]:
        """Share of the catalogue that each named theme makes up, in [0, 1]."""
        total = max(self.domain.n_items, 1)
        return [
            (self._category_counts[name] or self._word_counts.get(name, 1)) / total
            for name in names
        ]

    def _by_words(
        self, items: Sequence[int], weights: Sequence[float], places: list[int]
    ) -> list[Theme]:
        """Themes of the items at `places`, which have no category: greedy cover by words."""
        words = {place: self._words(items[place]) for place in places}
        themes = []
        while words:
            pull: dict[str, float] = defaultdict(float)
            support: Counter[str] = Counter()
            for place, of_item in words.items():
                for word in of_item:
                    pull[word] += weights[place] * log(
                        (self.domain.n_items + 1) / self._word_counts[word]
                    )
                    support[word] += 1
            shared = [word for word in pull if support[word] > 1]
            if not shared:
                break
            best = min(shared, key=lambda word: (-pull[word], word))
            members = tuple(place for place, of_item in words.items() if best in of_item)
            themes.append(Theme(best, members))
            for place in members:
                del words[place]
        return themes + [Theme(self.name(items[place]), (place,)) for place in words]

    def name(self, item: int) -> str:
        """Title of an item, its id where it has none."""
        return self._titles[item] or str(self.domain.items["item_id"][item])

    def _words(self, item: int) -> frozenset[str]:
        return frozenset(_WORD.findall((self._titles[item] or "").lower())) - _PLAIN

    @cached_property
    def _titles(self) -> list[str | None]:
        return self.domain.items["title"].to_list()

    @cached_property
    def _categories(self) -> list[str | None]:
        paths: list[str | None] = self.domain.items["category"].to_list()
        return [path and SEPARATOR.join(path.split(SEPARATOR)[:LEVELS]) for path in paths]

    @cached_property
    def _category_counts(self) -> Counter[str]:
        return Counter(name for name in self._categories if name)

    @cached_property
    def _word_counts(self) -> Counter[str]:
        """Titles of the catalogue that hold each word."""
        return Counter(word for item in range(self.domain.n_items) for word in self._words(item))
