"""A fitted recommender grows: by a domain, or by the first events of one that joined.

Everything is made anew beside what is there; the recommender that grows stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from isthmus.config import CleaningConfig, Config
from isthmus.data import growth
from isthmus.data.cleaning import CleaningReport, Origin
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.frames import DomainFrames, PeopleFrames
from isthmus.data.splits import Split
from isthmus.errors import DataError, RequestError
from isthmus.recommender.encoding import Encoder, encoder_of
from isthmus.transfer.adaptation import adapt
from isthmus.transfer.joining import join
from isthmus.transfer.system import System


@dataclass(frozen=True)
class Grown:
    """What makes a recommender, larger than before; see `Recommender`."""

    dataset: Dataset
    split: Split
    raw: list[ItemFeatures]
    system: System


@dataclass(frozen=True)
class Tables:
    """What comes in, and how it is to be taken.

    Attributes:
        frames: a catalogue, events, or both.
        people: who is who across domains.
        cleaning: what to do with rows that cannot be used.
        report: filled with what was dropped or noted.
    """

    frames: DomainFrames
    people: PeopleFrames
    cleaning: CleaningConfig
    report: CleaningReport

    @classmethod
    def of(
        cls,
        config: Config,
        frames: DomainFrames,
        people: PeopleFrames | None,
        cleaning: CleaningConfig | None,
        report: CleaningReport | None,
    ) -> Tables:
        """The same, with what is not given as the model was fitted, and without a mapping."""
        return cls(
            frames,
            PeopleFrames(linked=config.people.linked) if people is None else people,
            config.cleaning if cleaning is None else cleaning,
            CleaningReport() if report is None else report,
        )


def with_domain(
    before: Grown, config: Config, name: str, tables: Tables, encoder: Encoder | None
) -> Grown:
    """Join a catalogue, and learn from its events where there are any."""
    frames = tables.frames
    if frames.items is None and frames.events is None:
        raise DataError(
            "neither a catalogue nor events",
            where=f"domains.{name}",
            hint="Name a table of items, of events, or both",
        )
    grown = growth.add_domain(
        before.dataset,
        name,
        frames,
        people=tables.people,
        cleaning=tables.cleaning,
        report=tables.report,
    )
    items = grown.dataset.domains[-1].items
    parts = set(config.blend.parts)
    reads_texts = "text" in parts or ("neural" in parts and config.model.use_text)
    if not (len(grown.fresh) or (reads_texts and items["text"].count())):
        why = "has a text" if reads_texts else "could be read by the blend's parts"
        raise DataError(
            f"no item of {name!r} {why}, and no event is left to learn from: nothing could be "
            "recommended",
            where=(frames.items_origin or frames.events_origin or Origin("items")).file,
            hint=f"Map its text columns, under domains.{name}.catalogue.text, or give its events",
        )
    split = grown.split(before.split)
    raw = [*before.raw, encoder_of(config, encoder, name).encode(items["text"].to_list())]
    domain = len(grown.dataset.domains) - 1
    system = join(before.system, grown.dataset, split, raw, config, domain)
    if len(grown.fresh):
        system = adapt(system, grown.dataset, split, raw, config, domain)
    return Grown(grown.dataset, split, raw, system)


def with_events(
    before: Grown, config: Config, name: str, tables: Tables, limit: int | None
) -> Grown:
    """Learn from the first events of a domain that joined, or had no behaviour when fitted."""
    domain = before.dataset.domain_index(name)
    system = before.system
    train = before.split.train_events(before.dataset)
    if domain not in system.joined and bool((train.domain == domain).any()):
        if system.began_silent(domain):
            raise RequestError(
                f"{name!r} had no behaviour when the model was fitted, and has learnt from what "
                "came with updates",
                hint="Give it more of them with 'isthmus update', or fit the model again with "
                "'isthmus fit'",
            )
        raise RequestError(
            f"{name!r} was there when the model was fitted, and learnt from its events then",
            hint="Fit the model again with 'isthmus fit' to learn from more of them",
        )
    if limit is not None and limit < 1:
        raise RequestError(f"limit is {limit}", where="limit", hint="Set it to 1 or more")
    if tables.frames.events is None:
        raise DataError("no events", where=f"domains.{name}", hint="Name a table of events")
    grown = growth.add_events(
        before.dataset,
        domain,
        tables.frames,
        limit=limit,
        people=tables.people,
        # The catalogue is numbered to its end, with other domains behind it.
        cleaning=tables.cleaning.model_copy(update={"unknown_items": "drop"}),
        report=tables.report,
    )
    if not len(grown.fresh):
        said = "; ".join(tables.report.lines())
        raise DataError(
            f"no new event of {name!r} is left to learn from" + (f": {said}" if said else ""),
            where=(tables.frames.events_origin or Origin("events")).file,
            hint="Give a longer export, or a larger limit",
        )
    split = grown.split(before.split)
    if domain not in system.joined:
        system = join(system, grown.dataset, split, before.raw, config, domain)
    system = adapt(system, grown.dataset, split, before.raw, config, domain)
    return replace(before, dataset=grown.dataset, split=split, system=system)
