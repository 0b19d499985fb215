"""`isthmus demo`: the main job on two generated worlds, one with transfer and one without.

The tables of each world are written as files with an `isthmus.toml`, and everything after that is
what a user does with tables of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import output
from isthmus.cli.folders import CONFIG, MODELS, RUNS, writable
from isthmus.cli.learn import summary_of, write_pages
from isthmus.cli.options import AsJson
from isthmus.errors import DataError

if TYPE_CHECKING:
    from isthmus.config import Config
    from isthmus.data.dataset import Dataset
    from isthmus.experiment.compare import Comparison
    from isthmus.recommender import Recommender

NAME = "demo"
SOURCE, TARGET = "books", "gear"
BASELINES = ("popular", "recent-popular", "co-occurrence", "text", "ease")
# Small enough for a minute on a laptop, large enough for the verdict to be the same at any seed.
QUICK: dict[str, dict[str, Any]] = {
    "model": {"dim": 32, "layers": 1},
    "training": {"epochs": 12, "batch_events": 512, "learning_rate": 0.004, "threads": 1},
    "evaluation": {"cutoffs": [10, 100], "min_slice": 200},
}
HISTORY = 5


def demo(
    users: Annotated[int, typer.Option("--users", min=200, help="People in each world.")] = 4000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of worlds and training.")] = 0,
    folder: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where everything goes.")
    ] = Path("isthmus-demo"),
    as_json: AsJson = False,
) -> None:
    """Show the main job on two generated worlds.

    Two catalogues, books and gear: in one world what people read tells what they buy, in the
    other it does not. Isthmus is to find out which is which, from the tables alone. Leaves tables,
    report and model behind, to go on with.
    """
    _usable(folder)
    from isthmus.cli import demo_text

    began, tell = time.monotonic(), output.teller()
    show = output.silent if as_json else output.show
    show(demo_text.OPENING)
    with output.resumable():
        tell("generating a world with transfer")
        config, dataset = _tables(folder, users, seed, transfer=1.0)
        show(demo_text.catalogues(dataset))
        related = _answer(config, dataset, folder, tell)
        related.recommender.save(folder / MODELS / NAME)
        show(*demo_text.with_transfer(related.record))
        other = folder / "no-transfer"
        tell("generating a world without")
        unrelated = _answer(*_tables(other, users, seed, transfer=0.0), other, tell)
        show(*demo_text.without_transfer(unrelated.record))
    user = understandable_user(related.recommender)
    show(*demo_text.recommendations(related.recommender, user, SOURCE, TARGET))
    report = folder / RUNS / NAME / "report.html"
    show(*demo_text.closing(folder, report, user, TARGET, time.monotonic() - began))
    if as_json:
        output.print_json(
            {
                "folder": str(folder),
                "transfer": summary_of(related),
                "no-transfer": summary_of(unrelated),
            }
        )


def _usable(folder: Path) -> None:
    """The folder is new, empty or an earlier demo's."""
    earlier = folder / CONFIG.name
    ours = earlier.is_file() and f'name = "{NAME}"' in earlier.read_text("utf-8", "replace")
    if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            "holds other things", where=str(folder), hint="Name a new folder with --output"
        )
    writable(folder)


def _tables(folder: Path, users: int, seed: int, *, transfer: float) -> tuple[Config, Dataset]:
    """Write a world as files, and read them like anybody's."""
    import tomlkit

    from isthmus.config import Config
    from isthmus.data.build import build_dataset
    from isthmus.data.world import DomainSpec, WorldConfig, generate_world
    from isthmus.experiment.records import write_whole

    domains = (DomainSpec(name=SOURCE), DomainSpec(name=TARGET))
    world = WorldConfig(n_users=users, seed=seed, transfer=transfer, domains=domains)
    path = generate_world(world).write(folder)
    content = tomlkit.parse(path.read_text("utf-8"))
    content.update({"name": NAME, "seed": seed, **QUICK})
    write_whole(path, tomlkit.dumps(content).encode())
    config = Config.load(path)
    return config, build_dataset(config)[0]


def _answer(
    config: Config, dataset: Dataset, folder: Path, tell: Callable[[str], None]
) -> Comparison:
    """Ask whether the books help, and write the report."""
    from isthmus.experiment.compare import compare

    found = compare(
        config,
        dataset=dataset,
        seeds=[config.seed],
        baselines=BASELINES,
        folder=folder / RUNS,
        tell=tell,
    )
    write_pages(folder / RUNS / NAME)
    return found


def understandable_user(recommender: Recommender) -> str:
    """Somebody new to the target whose latest items elsewhere are most of one mind.

    Chosen by the history alone: the texts of the latest items are alike. There are always
    some who keep to the source.
    """
    import numpy as np

    dataset, features = recommender.dataset, recommender.system.features
    source, target = (dataset.domain_index(name) for name in (SOURCE, TARGET))
    events = dataset.events
    own = np.bincount(events.user[events.domain == target], minlength=dataset.n_users)
    total = np.diff(events.offsets)
    candidates = np.flatnonzero((own == 0) & (total >= HISTORY) & (total <= 12))
    latest = events.offsets[candidates + 1, None] - np.arange(1, HISTORY + 1)
    vectors = features[source].vectors[events.item[latest]]
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-9)
    alike = np.linalg.norm(unit.mean(1), axis=1)
    return str(dataset.user_ids[int(candidates[np.argmax(alike)])])
