"""`isthmus recommend`, `similar`, `profile` and `export`: questions to a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.folders import load_cross_encoder, load_model
from isthmus.cli.options import (
    AsJson,
    Count,
    Histories,
    ModelFolder,
    histories,
    identifiers,
    once,
)
from isthmus.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

Domain = Annotated[str, typer.Argument(metavar="DOMAIN", help="Where to recommend.")]
Seen = Annotated[bool, typer.Option("--seen", help="Offer items of the history as well.")]
_PARQUET = (".parquet", ".pq")
_NAMED = 10
_NOTHING = "every item that may be offered is in the history, whose items --seen offers"
_REREAD = ("first_rank", "reread")
_ITEM = ("rank", "item_id", "title", "category", "score", "parts", "why")


def recommend(
    domain: Domain,
    model: ModelFolder = None,
    user: Annotated[
        list[str] | None,
        typer.Option("--user", "-u", metavar="ID", help="For whom; repeatable.", callback=once),
    ] = None,
    history: Histories = None,
    k: Count = 10,
    category: Annotated[
        str | None, typer.Option("--category", help="Only items with this in their category.")
    ] = None,
    allow: Annotated[
        str | None, typer.Option("--allow", metavar="ID,…|@FILE", help="Only these items.")
    ] = None,
    deny: Annotated[
        str | None, typer.Option("--deny", metavar="ID,…|@FILE", help="None of these items.")
    ] = None,
    seen: Seen = False,
    rerank: Annotated[
        Path | None,
        typer.Option(
            "--rerank",
            metavar="FOLDER",
            help="Put the best in order anew by a language model that 'isthmus teach' tuned.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recommend items to people.

    For known users, for a history given on the spot, or for somebody new; each item comes with
    the reason why it stands there, each list with what it rests on.
    """
    given = histories(history)
    if not user and not given:
        raise RequestError("nobody to recommend to", hint="Give --user ID, or --history")
    allowed, denied = identifiers(allow, "--allow"), identifiers(deny, "--deny")
    recommender = load_model(model)
    reader = None if rerank is None else load_cross_encoder(rerank)
    answers = recommender.recommend(
        domain,
        users=user,
        histories=given,
        k=k,
        seen=seen,
        category=category,
        allow=allowed,
        deny=denied,
        rerank=reader,
    )
    if reader is not None and reader.weight(domain) == 0:
        asked = domain in (reader.weights or {})
        why = "does not help" if asked else "was not asked on validation"
        output.note(f"--rerank: {rerank} {why} in {domain}, and the order stays")
    catalogue = recommender.dataset.domains[recommender.dataset.domain_index(domain)]
    unknown = [item for item in dict.fromkeys(denied or ()) if item not in catalogue.item_index]
    if unknown:
        output.note(
            f"--deny: the catalogue of {domain!r} does not hold {_some(unknown)}. "
            "Check the spelling"
        )
    requests = [*(user or ()), *(f"history {n}" for n in range(1, len(given or ()) + 1))]
    if as_json:
        output.print_json({"domain": domain, "answers": by_request(answers, requests)})
        return
    for answer in by_request(answers, requests):
        title = output.heading(f"{answer['request']} · {domain}")
        if not answer["items"]:
            output.show(title, f"Nothing: {answer['basis']}.", "")
            continue
        output.show(
            title, f"Rests on: {answer['basis']}.\n", output.items_table(answer["items"]), ""
        )


def similar(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="Where the item is.")],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Its id.")],
    model: ModelFolder = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="DOMAIN", help="Where to look; default: the same.")
    ] = None,
    k: Count = 10,
    as_json: AsJson = False,
) -> None:
    """Find items like an item, here or elsewhere."""
    recommender = load_model(model)
    rows = recommender.similar(domain, item, to=to, k=k).to_dicts()
    if as_json:
        output.print_json({"domain": domain, "item_id": item, "to": to or domain, "items": rows})
        return
    catalogue = recommender.dataset.domains[recommender.dataset.domain_index(domain)]
    title = catalogue.items["title"][catalogue.index_of(item)] or item
    said = output.heading(f"Like '{title}' from {domain}, in {to or domain}\n")
    output.show(said, output.items_table(rows))


def profile(
    model: ModelFolder = None,
    user: Annotated[str | None, typer.Option("--user", "-u", metavar="ID", help="Whose.")] = None,
    history: Histories = None,
    as_json: AsJson = False,
) -> None:
    """Say what a person cares about.

    In each catalogue by itself, and what that suggests in the others.
    """
    given = histories(history) or []
    if (user is not None) + len(given) != 1:
        raise RequestError("a profile is of one person", hint="Give one --user or one --history")
    found = load_model(model).profile(user, history=given[0] if given else None)
    if as_json:
        output.print_json(found.to_dict())
        return
    for line in found.lines():
        shares = line.startswith(" ")
        output.show(output.hanging(line, 8) if shares else output.heading(line))


def export(
    domain: Domain,
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The Parquet file to write.")],
    model: ModelFolder = None,
    k: Count = 10,
    chunk: Annotated[int, typer.Option("--chunk", min=1, help="Users scored at once.")] = 1024,
    seen: Seen = False,
    as_json: AsJson = False,
) -> None:
    """Write the best items for every known user.

    To one Parquet file, in chunks of bounded memory.
    """
    if target.is_dir():
        raise RequestError("is a folder", where=str(target), hint="Name a file in it")
    if target.suffix.lower() not in ("", *_PARQUET):
        raise RequestError(
            f"{target.suffix} is not written, Parquet alone is",
            where=str(target),
            hint=f"Name it {target.with_suffix('.parquet')}",
        )
    rows = load_model(model).export(domain, target, k=k, chunk=chunk, seen=seen)
    if as_json:
        output.print_json({"domain": domain, "file": str(target), "rows": rows})
        return
    print(f"Wrote {rows:,} rows to {target}: user_id, rank, item_id, score, basis.")


def by_request(answers: pl.DataFrame, asked: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Recommendations as one entry per person: `request`, `basis`, `items`.

    Args:
        answers: a row per item.
        asked: the requests, each of which has an entry, if one without items.
    """
    found = {request: _entry(request) for request in asked}
    for row in answers.iter_rows(named=True):
        entry = found.setdefault(row["request"], _entry(row["request"]))
        entry["basis"] = row["basis"]
        entry["items"].append({key: row[key] for key in (*_ITEM, *_REREAD) if key in row})
    return list(found.values())


def _entry(request: str) -> dict[str, Any]:
    """Of somebody to whom nothing is offered."""
    return {"request": request, "basis": _NOTHING, "items": []}


def _some(ids: Sequence[str]) -> str:
    """The first ids, and how many there are beside them."""
    more = len(ids) - _NAMED
    named = ", ".join(repr(item) for item in ids[:_NAMED])
    return f"{named} and {more:,} more" if more > 0 else named
