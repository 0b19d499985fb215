"""`isthmus simulate`: people whose tastes drift, and ways to keep up with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.demo import QUICK
from isthmus.cli.folders import model_place, writable
from isthmus.cli.options import AsJson, Overrides, words
from isthmus.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isthmus.config import Config
    from isthmus.data.world import World
    from isthmus.language import TextEncoder
    from isthmus.online.simulation import Simulation
    from isthmus.serving.remote import Remote

_OF_SERVICE = {"key": "--key", "rest": "--rest"}
_OF_TRAFFIC = {
    "night": "--night",
    "arms": "--arms",
    "url": "--url",
    **_OF_SERVICE,
    "folder": "--output",
}


def simulate(
    given: typer.Context,
    users: Annotated[int, typer.Option("--users", min=100, help="People in the world.")] = 1000,
    drift: Annotated[
        float,
        typer.Option(
            "--drift", min=0, max=1, help="How fast tastes change; 0: never, 1: new in a year."
        ),
    ] = 0.5,
    night: Annotated[
        float, typer.Option("--night", metavar="DAYS", min=1, help="Days between two nights.")
    ] = 60.0,
    arms: Annotated[
        str, typer.Option("--arms", metavar="NAME,…", help="Who answers.")
    ] = "frozen,incremental,nightly,oracle",
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help="A running service that answers as well; it serves what --save-model saved.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", envvar="ISTHMUS_KEY", help="For --url, with the roles read and ingest."
        ),
    ] = None,
    rest: Annotated[
        float,
        typer.Option(
            "--rest", metavar="SECONDS", min=0, help="For --url: pause at night, for its learner."
        ),
    ] = 0.0,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save-model",
            metavar="FOLDER",
            help="Only save the model of the world's first 40 %, for 'isthmus serve'.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of world, traffic, training.")] = 0,
    overrides: Overrides = None,
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the results go.")
    ] = Path("isthmus-simulation"),
    as_json: AsJson = False,
) -> None:
    """Let simulated people click, and see what learning every night is worth.

    A model is fitted to the first 40 % of a generated world's time. In the rest of it people whose
    true tastes drift look at its lists and click by what they like and by how far up it stands.
    One answerer keeps its weights, one learns incrementally every night, one is fitted anew every
    night, one knows what people like, and with --url a running service answers too; all see the
    live history. Writes simulation.json and a chart, simulation.svg.
    """
    _refuse_idle(given, served=url is not None, saved=save is not None)
    place = writable(folder) if save is None else model_place(save, "simulated")
    from isthmus.config import Config
    from isthmus.data.world import DomainSpec, WorldConfig, generate_world
    from isthmus.language import TextEncoder
    from isthmus.online.simulation import simulate as run_simulation
    from isthmus.online.traffic import TrafficConfig

    config = Config.model_validate({**QUICK, "seed": seed}).override(*(overrides or ()))
    domains = (DomainSpec(name="books", n_items=400), DomainSpec(name="gear", n_items=300))
    tell = output.teller()
    world = generate_world(WorldConfig(n_users=users, seed=seed, drift=drift, domains=domains))
    encoder = TextEncoder.load(config.language, device=config.training.device)
    if save is not None:
        _save(place, world, config, encoder, as_json)
        return
    found = run_simulation(
        world,
        config,
        encoder,
        arms=tuple(words(arms) or ()),
        others=[] if url is None else [_service(url, key, world, rest)],
        night_days=night,
        traffic=lambda since: TrafficConfig(since, seed=seed),
        each=lambda name, day: tell(f"{name}: {len(day.user):,} visits"),
    )
    document = _document(found) | {"users": users, "drift": drift, "night_days": night}
    _write(place, found, document)
    if as_json:
        output.print_json(document)
        return
    _show(found, document)
    print(f"\nChart {place / 'simulation.svg'}")


def _refuse_idle(given: typer.Context, *, served: bool, saved: bool) -> None:
    """Refuse options that were typed and would change nothing.

    Raises:
        ConfigError: says which, and beside or without what.
    """

    def typed(names: Mapping[str, str]) -> str:
        # A variable of the environment is there for every command.
        sources = {name: given.get_parameter_source(name) for name in names}
        return ", ".join(
            names[name]
            for name, source in sources.items()
            if source is not None and source.name == "COMMANDLINE"
        )

    if saved and (idle := typed(_OF_TRAFFIC)):
        raise ConfigError(
            "says nothing beside --save-model, which saves a model and stops",
            where=idle,
            hint="Leave it out here, and give it when you simulate with the saved model",
        )
    if not served and (idle := typed(_OF_SERVICE)):
        raise ConfigError(
            "says nothing without a service", where=idle, hint="Add --url http://127.0.0.1:8765"
        )


def _save(folder: Path, world: World, config: Config, encoder: TextEncoder, as_json: bool) -> None:
    from isthmus.online.simulation import base_model

    version = base_model(world, config, encoder).save(folder).name
    if as_json:
        output.print_json({"model": str(folder), "version": version})
        return
    print(f"Saved {folder}. Serve it from a new event log, let it learn beside, and simulate with")
    print("the same --users, --drift and --seed:")
    print(f"  isthmus serve --model {folder} --log simulated.db --no-auth")
    print(f"  isthmus update --model {folder} --log simulated.db --events 200")
    print("  isthmus simulate --url http://127.0.0.1:8765 --rest 30")


def _service(url: str, key: str | None, world: World, rest: float) -> Remote:
    from isthmus.serving.caller import Caller
    from isthmus.serving.remote import Remote

    return Remote(Caller(url, key), world.dataset, rest_seconds=rest)


def _document(found: Simulation) -> dict[str, Any]:
    arms = list(found.days)
    document: dict[str, Any] = {
        "click_through": {name: found.click_through(name) for name in arms},
        "visits": [len(day.user) for day in found.days[arms[0]]],
        "clicks": {name: int(sum(d.clicks.sum() for d in found.days[name])) for name in arms},
        "learning_seconds": dict(found.seconds),
    }
    if "frozen" in arms:
        document["last_third_against_frozen"] = {
            name: {"relative": gain.relative, "ci95": [gain.rel_low, gain.rel_high]}
            for name in arms
            if name != "frozen"
            for gain in [found.against(name, "frozen")]
        }
    return document


def _write(folder: Path, found: Simulation, document: dict[str, Any]) -> None:
    import json

    from isthmus.experiment.records import write_whole
    from isthmus.report.lines import write_lines

    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "simulation.json", json.dumps(document, indent=1).encode())
    write_lines(
        folder / "simulation.svg",
        "True-preference click-through",
        "mean true preference for what was shown",
        {name: found.click_through(name) for name in found.days},
        across="by night",
    )


def _show(found: Simulation, document: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("", "first", "last", "clicks", "learning", "last third against frozen"):
        table.add_column(column, justify="left" if not column else "right")
    gains = document.get("last_third_against_frozen", {})
    seconds = document["learning_seconds"]
    for name in found.days:
        through = document["click_through"][name]
        gain = gains.get(name)
        said = ""
        if gain:
            low, high = gain["ci95"]
            said = f"{gain['relative']:+.1%} ({low:+.1%} to {high:+.1%})"
        table.add_row(
            name,
            f"{through[0]:.4f}",
            f"{through[-1]:.4f}",
            f"{document['clicks'][name]:,}",
            f"{seconds[name]:.0f} s" if name in seconds else "",
            said,
        )
    output.show(table)
