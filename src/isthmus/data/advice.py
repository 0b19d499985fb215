"""From figures to advice: what will go wrong with this data, and what to do about it.

Each rule gives a fact about some domain and what to do; facts that call for the same are said
together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from isthmus.data.cleaning import CleaningReport

if TYPE_CHECKING:
    from isthmus.data.check import DomainFigures, PairFigures

FEW_EVENTS = 5_000
FEW_USERS = 500
FEW_SHARED = 0.05
TIED = 0.1
LATE = 0.5
CONCENTRATED = 0.3
ALIEN_TEXTS = 0.1
_MOST_FACTS = 4

Rule = Iterator[tuple[str, str]]


def advise(
    domains: Sequence[DomainFigures], pairs: Sequence[PairFigures], cleaning: CleaningReport
) -> tuple[str, ...]:
    """One piece of advice per thing to do, those about transfer first."""
    found = list(_alone(domains))
    for pair in pairs:
        found += _transfer(pair)
    for rule in (_clock, _behaviour, _texts):
        for domain in domains:
            found += rule(domain)
    for domain in domains:
        found += _silent(domain, cleaning)
    found += [*_ahead(cleaning), *_losses(cleaning)]
    return _by_action(found)


def ahead_of_now(cleaning: CleaningReport) -> tuple[str, ...]:
    """The advice on events that cannot have happened yet, if there are any."""
    return _by_action(_ahead(cleaning))


def _by_action(found: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    facts_by_action: dict[str, list[str]] = {}
    for fact, action in found:
        facts_by_action.setdefault(action, []).append(fact)
    return tuple(f"{_together(facts)}. {action}" for action, facts in facts_by_action.items())


def _together(facts: list[str]) -> str:
    more = len(facts) - _MOST_FACTS
    shown = "; ".join(facts[:_MOST_FACTS])
    return f"{shown}; and {more} more of the kind" if more > 0 else shown


def _alone(domains: Sequence[DomainFigures]) -> Rule:
    if len(domains) == 1:
        yield (
            "There is one domain only, so nothing can carry over",
            "Add a second catalogue under [domains].",
        )


def _transfer(p: PairFigures) -> Rule:
    names = f"{p.first} and {p.second}"
    if p.users == 0 and p.text_similarity is None:
        yield (
            f"{names} share no person and cannot be compared by text: nothing can carry over",
            "Add texts to the items, or link people with people.mapping.",
        )
    elif p.users == 0:
        yield (
            f"{names} share no person: what carries over goes by text only",
            "If the same people have other ids in each, link them with people.mapping.",
        )
    elif p.share < FEW_SHARED:
        yield (
            f"{names} share {p.users:,} people, {p.share:.1%} of the smaller",
            "Little can carry over by people: link more with people.mapping, or rely on texts.",
        )
    if p.text_similarity is not None and p.text_similarity < ALIEN_TEXTS:
        yield (
            f"the texts of {names} use different words (similarity {p.text_similarity:.2f})",
            "If they are in different languages, choose a language model that knows both.",
        )


def _clock(d: DomainFigures) -> Rule:
    if d.events and d.time_range is None:
        yield (
            f"{d.name} has no times",
            "There is no split by time and no recent popularity, and such a history is interleaved "
            "with other domains by relative position: map a time column if there is one.",
        )
    if d.tied_share is not None and d.tied_share > TIED:
        unit = ", since times are whole days" if d.day_resolution else ""
        yield (
            f"{d.name}: {d.tied_share:.0%} of events share the moment of the one before{unit}",
            "Ties are broken at random by a fixed seed; never by the order of rows, which may leak "
            "answers.",
        )
    if d.late_share is not None and d.late_share > LATE:
        yield (
            f"{d.name}: {d.late_share:.0%} of events lie in the last fifth of the time range",
            "Cut by quantiles of events, which is the default, not by the calendar.",
        )
    if d.last_part is not None and not 0.01 <= d.last_part <= 0.8:
        side = "nearly all before" if d.last_part < 0.5 else "mostly after"
        yield (
            f"{d.name}: events lie {side} the moment that cuts all events at 80 %",
            "The domains hardly share a clock: set split.kind = 'leave-one-out'.",
        )
    if d.time_range is not None and d.time_range[0] < "1990":
        yield (
            f"{d.name}: the first event is dated {d.time_range[0]}",
            "Times of 0 usually stand for missing ones: correct or drop them.",
        )


def _behaviour(d: DomainFigures) -> Rule:
    if not d.events:
        yield (
            f"{d.name} has no events",
            "It can be recommended from by text, and nothing can be measured there.",
        )
        return
    if d.events < FEW_EVENTS or d.users < FEW_USERS:
        yield (
            f"{d.name} has {d.events:,} events of {d.users:,} users",
            "Intervals will be wide: gather more, or read the intervals before the figures.",
        )
    if d.single_users > 0.5:
        yield (
            f"{d.name}: {d.single_users:.0%} of users have a single event in it",
            "Their history must come from other domains; add some, or raise "
            "cleaning.min_user_events.",
        )
    if d.top_share > CONCENTRATED:
        yield (
            f"{d.name}: a hundredth of the items draws {d.top_share:.0%} of events",
            "Popularity will be hard to beat: look at coverage and novelty beside accuracy.",
        )
    if d.duplicates > d.events / 100:
        yield (
            f"{d.name}: {d.duplicates:,} events repeat another in person, item and moment",
            "If they are no true repeats, set cleaning.duplicates = 'first'.",
        )


def _texts(d: DomainFigures) -> Rule:
    if d.items and d.text_share == 0:
        yield (
            f"{d.name}: no item has a text",
            "Only people in common carry anything over, and new items cannot be recommended: name "
            "text columns in catalogue.text.",
        )
    elif d.text_share < 0.8:
        yield (
            f"{d.name}: {1 - d.text_share:.0%} of items have no text and are known by id alone",
            "They are never found by likeness of text: add titles where you can.",
        )
    elif d.text_words < 3:
        yield (
            f"{d.name}: half of the texts have at most {d.text_words:g} words",
            "Add a category, brand or description to catalogue.text.",
        )


def _silent(d: DomainFigures, cleaning: CleaningReport) -> Rule:
    if d.events and d.silent_items > 0.3:
        file = cleaning.shared.get(d.name)
        yield (
            f"{d.name}: {d.silent_items:.0%} of items have no event",
            "Only their texts can bring them up: see that they have one."
            if file is None
            else f"{file} is the catalogue of all that 'only' tells apart: give it that column "
            "with the same values, or each domain a file of its own.",
        )


def _ahead(cleaning: CleaningReport) -> Rule:
    for name, (n, latest) in cleaning.ahead.items():
        events = "1 event is" if n == 1 else f"{n:,} events are"
        yield (
            f"{name}: {events} dated more than a day from now, the latest {latest}",
            "What is popular is counted back from the latest event: correct these dates, or take "
            "the rows out of the file.",
        )


def _losses(cleaning: CleaningReport) -> Rule:
    for name, read in cleaning.rows_read.items():
        kept = cleaning.rows_kept.get(name, read)
        if read and kept < 0.95 * read:
            yield (
                f"{name}: cleaning dropped {1 - kept / read:.0%} of {read:,} events",
                "See what was dropped and why before trusting the rest.",
            )
