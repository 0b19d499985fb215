"""Which events count by their kind and rating: `keep_kinds`, `rating_scale` and `min_rating`.

As in a table. The rule is here twice, side by side: for a record, and for a database that looks
for a person's latest events that count among many that do not.
"""

from __future__ import annotations

from isthmus.config import Config
from isthmus.online.events import Event, Glance


def not_kept(event: Event | Glance, config: Config) -> str | None:
    """Why an event does not count by its kind or rating; None: it does."""
    cleaning, domain = config.cleaning, config.domains.get(event.domain)
    if domain and domain.keep_kinds is not None and event.kind not in domain.keep_kinds:
        return f"of kind {event.kind!r}, which is not kept"
    if event.rating is not None:
        low, high = cleaning.rating_scale or (event.rating, event.rating)
        if not low <= event.rating <= high:
            return "rated outside the scale"
        if cleaning.min_rating is not None and event.rating < cleaning.min_rating:
            return f"rated below {cleaning.min_rating:g}"
    return None


def kept_in_sql(config: Config) -> tuple[str, list[object]]:
    """What `not_kept` lets through, as conditions on a row of a log that is an event.

    Returns:
        SQL that starts with AND, or nothing where all count, and the values for its `?`.
    """
    found, values = "", list[object]()
    for name, domain in config.domains.items():
        if (kinds := domain.keep_kinds) is not None:
            kept = f" OR kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
            found += f" AND (domain <> ?{kept})"
            values += [name, *kinds]
    if scale := config.cleaning.rating_scale:
        found += " AND (rating IS NULL OR rating BETWEEN ? AND ?)"
        values += scale
    if (least := config.cleaning.min_rating) is not None:
        found += " AND (rating IS NULL OR rating >= ?)"
        values.append(least)
    return found, values
