"""A generated world with known truth: the embedded default of the library.

People, their tastes, the catalogues of several domains and what happened in them, all from one
seed. `WorldConfig.transfer` says how much one domain tells about another, so a method that claims
transfer can be held against the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from isthmus.data.build import dataset_from_frames
from isthmus.data.dataset import Dataset
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.world import knowledge, society
from isthmus.data.world.behaviour import Market, Shown
from isthmus.data.world.catalogue import Catalogue, stock
from isthmus.data.world.files import write_tables
from isthmus.data.world.society import People
from isthmus.data.world.spec import WorldConfig
from isthmus.data.world.tastes import draw_tastes
from isthmus.data.world.themes import Theme, choose_themes
from isthmus.errors import RequestError, did_you_mean


@dataclass(frozen=True)
class World:
    """Everything about one world. Rows of users and items are those of its `dataset`.

    Attributes:
        config: what it was asked to be.
        themes: the human themes; topic number `3 * theme + part` is used throughout.
        people: the users, in row order.
        markets: per domain, items, tastes and true preferences together.
        active: per domain, bool [n_users]; who acts there.
        shown: per domain, what pages showed to active users and what they clicked.
    """

    config: WorldConfig
    themes: tuple[Theme, ...]
    people: People
    markets: Mapping[str, Market]
    active: Mapping[str, NDArray[np.bool_]]
    shown: Mapping[str, Shown]

    @property
    def catalogues(self) -> dict[str, Catalogue]:
        """Items per domain, with their true topics."""
        return {name: market.catalogue for name, market in self.markets.items()}

    def preference(
        self, users: ArrayLike, domain: str, time: float | None = None
    ) -> NDArray[np.float32]:
        """True chance that a user who is shown an item clicks it, seen before or not.

        Args:
            users: user rows, [n]; ask in chunks, the answer is n × catalogue.
            domain: name of the domain.
            time: Unix seconds; None: at the end of the world.

        Returns:
            float32 [n, n_items] in (0, 1).

        Raises:
            RequestError: the world has no such domain.
        """
        odds = self._market(domain).all_log_odds(*self._asked(users, time))
        return np.asarray(1 / (1 + np.exp(-odds)), np.float32)

    def taste(
        self, users: ArrayLike, domain: str, time: float | None = None
    ) -> NDArray[np.float32]:
        """True shares of interest in each topic, float32 [n, n_topics]; rows sum to 1.

        Arguments and errors as in `preference`.
        """
        return self._market(domain).tastes.at(*self._asked(users, time))

    @cached_property
    def frames(self) -> dict[str, DomainFrames]:
        """Per domain, events (`user_id`, `item_id`, `time`, `rating`) and items."""
        return {name: DomainFrames(self._events(name), self._items(name)) for name in self.shown}

    @cached_property
    def people_frames(self) -> PeopleFrames:
        """Users' attributes, links, groups, triples and impressions."""
        tastes = {name: market.tastes for name, market in self.markets.items()}
        return PeopleFrames(
            users=society.attributes(self.config, self.people),
            links=society.friendships(self.config, self.people, tastes),
            groups=society.memberships(self.config, self.people, tastes, self.themes),
            triples=knowledge.triples(self.catalogues, self.themes),
            impressions=pl.concat([self._impressions(name) for name in self.shown]),
        )

    @cached_property
    def dataset(self) -> Dataset:
        """The world as anybody sees it, without the truth."""
        return dataset_from_frames(self.frames, people=self.people_frames)[0]

    def write(self, folder: Path | str, *, kind: Literal["parquet", "csv"] = "parquet") -> Path:
        """Write all tables and an `isthmus.toml` that names them; gives the path of the latter.

        Raises:
            DataError: the folder cannot be written.
        """
        return write_tables(Path(folder), self.config.names, self.frames, self.people_frames, kind)

    def _market(self, domain: str) -> Market:
        if domain not in self.markets:
            raise RequestError(
                f"domain {domain!r} is not in this world", hint=did_you_mean(domain, self.markets)
            )
        return self.markets[domain]

    def _asked(self, users: ArrayLike, time: float | None) -> tuple[NDArray[np.int64], float]:
        return np.atleast_1d(np.asarray(users, np.int64)), self.config.end if time is None else time

    def _items(self, name: str) -> pl.DataFrame:
        return self.catalogues[name].table

    def _events(self, name: str) -> pl.DataFrame:
        shown = self.shown[name]
        user, item = shown.user[shown.clicked], shown.item[shown.clicked]
        return pl.DataFrame(
            {
                "user_id": self.people.ids[user],
                "item_id": self._items(name)["item_id"].gather(item),
                "time": shown.time[shown.clicked].astype(np.int64),
                "rating": shown.stars[shown.clicked],
            }
        )

    def _impressions(self, name: str) -> pl.DataFrame:
        shown = self.shown[name]
        return pl.DataFrame(
            {
                "user_id": self.people.ids[shown.user],
                "domain": np.full(len(shown.user), name),
                "item_id": self._items(name)["item_id"].gather(shown.item),
                "time": shown.time.astype(np.int64),
                "propensity": shown.propensity,
                "clicked": shown.clicked,
            }
        )


def generate_world(config: WorldConfig | None = None) -> World:
    """Draw a world; the same configuration gives the same world, byte for byte."""
    config = config or WorldConfig()
    themes = choose_themes(config.n_themes)
    people = society.populate(config)
    tastes = draw_tastes(config, themes)
    active = society.active(config, people)
    markets: dict[str, Market] = {
        spec.name: Market(config, spec, stock(config, spec, themes), tastes[spec.name], people)
        for spec in config.domains
    }
    # Everybody's behaviour is drawn, also where they do not act: so that who else acts, and which
    # other domains there are, changes nothing.
    shown: dict[str, Shown] = {}
    for name, market in markets.items():
        everything = market.open()
        shown[name] = everything.take(active[name][everything.user])
    return World(config, themes, people, markets, active, shown)
