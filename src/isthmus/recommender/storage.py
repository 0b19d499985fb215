"""A fitted recommender as one checkpoint folder.

    dataset/                   the snapshot (`data/storage.py`)
    states/split               training mask and questions
    states/raw/D, features/D   text vectors of each domain, as encoded and aligned
    states/own-features/D      in its own axes, where the alignment has others
    states/SIDE/PART           every part of the transferred side and of each target-only side
    states/SIDE/validation-D   what validation said of its blend
    states/tasks/TASK          heads of a further task

SIDE is `transferred`, `alone-D`, and for a domain that joined later `arrived-D` and `adapted-D`.
What sides share (whitened texts) is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.baselines.content import ContentKNN
from isthmus.baselines.cooccurrence import CoOccurrence
from isthmus.baselines.popular import RecentPopular
from isthmus.blend import Blend, FittedWeights, GateDecision, SliceGate
from isthmus.config import Config
from isthmus.continual.progress import Progress
from isthmus.data.dataset import Dataset
from isthmus.data.features import ItemFeatures
from isthmus.data.splits import Queries, Split
from isthmus.data.storage import load_dataset, save_dataset
from isthmus.model.scorer import NeuralScorer
from isthmus.scoring import Scorer
from isthmus.tasks.reader import TASKS
from isthmus.tasks.teach import Taught
from isthmus.training.checkpoint import Checkpoint, State, read_folder, write_folder
from isthmus.training.loop import Log, pick_device
from isthmus.transfer.sides import Joined, Side
from isthmus.transfer.system import System

Array = NDArray[np.generic]

KIND = "model"
_QUESTIONS = ("stopping", "tuning", "test")
_VALIDATION = {
    "gain": np.float64,
    "user": np.int64,
    "own": np.int64,
    "elsewhere": np.int64,
    "newcomer_gain": np.float64,
    "newcomer_user": np.int64,
    "deep_gain": np.float64,
    "newcomer_deep_gain": np.float64,
}
_PARTS: dict[str, Callable[[State], Scorer]] = {
    "co-occurrence": CoOccurrence.from_state,
    "text": ContentKNN.from_state,
    "recent-popular": RecentPopular.from_state,
}


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How much of which event log a model has taken in.

    Attributes:
        id: of the log.
        offset: of the latest record or mark that is reflected in the model and its dataset.
        registered: number of the latest registration of an item that is in its dataset.
    """

    id: str
    offset: int
    registered: int = 0


class Parts(NamedTuple):
    """What a recommender is made of, in the order of its arguments."""

    dataset: Dataset
    config: Config
    split: Split
    raw: Sequence[ItemFeatures]
    system: System
    log: LogPosition | None
    progress: Progress
    taught: Sequence[Taught]


def save(folder: Path, parts: Parts, *, live: bool = True, keep: int | None = None) -> Path:
    """Write everything that serving and evaluating need; gives the new version's own folder.

    `keep` older versions stay; None: as many as `learning.keep_versions` says.

    Raises:
        CheckpointError: the folder cannot be written or holds other things.
    """
    dataset, config, split, raw, system, log, progress, taught = parts
    # With one domain both sides are the same object, and are kept as one.
    sides = {"transferred": system.transferred}
    sides |= {
        f"alone-{d}": side for d, side in system.alone.items() if side is not system.transferred
    }
    for d, found in system.joined.items():
        sides[f"arrived-{d}"] = found.arrived
        if found.adapted is not None:
            sides[f"adapted-{d}"] = found.adapted
    states = {"split": _split_state(split)}
    groups = {"raw": raw, "features": system.features}
    if system.own_features is not system.features:
        groups["own-features"] = system.own_features
    for group, features in groups.items():
        states |= {f"{group}/{d}": _features_state(f) for d, f in enumerate(features)}
    shared: dict[str, dict[str, Array]] = {}
    for name, side in sides.items():
        common = shared.setdefault(_texts_of(name), {})
        states |= {f"{name}/{part}": state for part, state in _side_states(side, common).items()}
    states |= {name: State(arrays) for name, arrays in shared.items()}
    states |= {f"tasks/{heads.task}": heads.state() for heads in taught}
    meta = {
        "config": config.model_dump(mode="json"),
        "split": {"name": split.name, "cut_times": list(split.cut_times)},
        "sides": {name: _side_meta(side) for name, side in sides.items()},
        "alone": {
            str(d): "transferred" if side is system.transferred else f"alone-{d}"
            for d, side in system.alone.items()
        },
        "gates": {str(d): asdict(gate) for d, gate in system.gates.items()},
        "joined": [str(d) for d in system.joined],
        "log": None if log is None else asdict(log),
        "progress": progress.as_json(),
    }
    return write_folder(
        folder,
        states,
        kind=KIND,
        meta=meta,
        files=[lambda into: save_dataset(dataset, into / "dataset")],
        live=live,
        spare=config.learning.keep_versions if keep is None else keep,
        note=_note,
    )


def _note(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What the ledger says of a version."""
    progress = Progress.from_json(meta.get("progress"))
    return {"kind": progress.kind, "reason": progress.reason}


def load(folder: Path, version: str | None = None) -> Parts:
    """What `save` wrote, last or as the named version.

    Raises:
        CheckpointError: no such folder, one of another tool, damaged, or newer than this library.
    """
    saved = read_folder(folder, kind=KIND, version=version)
    meta = saved.meta
    dataset = load_dataset(saved.folder / "dataset")
    config = Config.parse(meta["config"], where=f"{folder}: config")
    raw, features = (_all_features(saved, group) for group in ("raw", "features"))
    apart = "own-features/0" not in saved.names
    # Only those that were there at first have axes of their own.
    own = features if apart else _all_features(saved, "own-features")
    # A model trained on a GPU serves wherever it is loaded.
    device = pick_device("cpu" if config.training.device == "cpu" else "auto")
    sides = {
        name: _side(saved, name, described, own if name.startswith("alone-") else features)
        for name, described in meta["sides"].items()
    }
    for side in sides.values():
        side.neural.model.to(device)
    system = System(
        transferred=sides["transferred"],
        alone={int(d): sides[name] for d, name in meta["alone"].items()},
        gates={int(d): _gate(gate) for d, gate in meta["gates"].items()},
        features=features,
        own_features=own,
        joined={
            int(d): Joined(sides[f"arrived-{d}"], sides.get(f"adapted-{d}"))
            for d in meta.get("joined", ())
        },
    )
    progress = Progress.from_json(meta.get("progress"))
    taught = [
        Taught.from_state(task, saved.state(name))
        for task in TASKS
        if (name := f"tasks/{task}") in saved.names
    ]
    log = _log_position(saved)
    return Parts(dataset, config, _split(saved), raw, system, log, progress, taught)


def log_position(folder: Path) -> LogPosition | None:
    """The place in an event log of the model in a folder, without loading the rest.

    Raises:
        CheckpointError: no such folder, or not a sound model.
    """
    return _log_position(read_folder(folder, kind=KIND))


def _log_position(saved: Checkpoint) -> LogPosition | None:
    # Folders written before there was a log say nothing of one.
    return LogPosition(**saved.meta["log"]) if saved.meta.get("log") else None


def _split_state(split: Split) -> State:
    arrays = {name: getattr(split, name).position for name in _QUESTIONS}
    return State({"in_train": split.in_train, **arrays})


def _split(saved: Checkpoint) -> Split:
    arrays = saved.state("split").arrays
    questions = {name: Queries(arrays[name].astype(np.int64)) for name in _QUESTIONS}
    return Split(
        name=saved.meta["split"]["name"],
        in_train=arrays["in_train"].astype(bool),
        cut_times=tuple(saved.meta["split"]["cut_times"]),
        **questions,
    )


def _features_state(features: ItemFeatures) -> State:
    vectors = features.vectors
    half = vectors.astype(np.float16)
    # Encoded vectors have passed through half precision, so most often nothing is lost.
    exact = np.array_equal(half.astype(np.float32), vectors)
    return State(
        {"vectors": half if exact else vectors, "present": features.present},
        {"whitened": features.whitened},
    )


def _features(state: State) -> ItemFeatures:
    return ItemFeatures(
        state.arrays["vectors"].astype(np.float32),
        state.arrays["present"].astype(bool),
        bool(state.meta.get("whitened", False)),
    )


def _all_features(saved: Checkpoint, group: str) -> list[ItemFeatures]:
    """The states `group/0`, `group/1` … as features."""
    n = sum(name.startswith(f"{group}/") for name in saved.names)
    return [_features(saved.state(f"{group}/{d}")) for d in range(n)]


def _texts_of(side: str) -> str:
    """State in which a side's texts stand; sides of one joined domain share theirs."""
    kind, _, domain = side.partition("-")
    return f"texts-{domain}" if kind in ("arrived", "adapted") else "texts"


def _side_states(side: Side, shared: dict[str, Array]) -> dict[str, State]:
    """States of a side's parts; arrays of its text part that others have too go to `shared`."""
    states = {"neural": side.neural.state()}
    for name, part in side.parts.items():
        if name == "neural":
            continue
        state: State = part.state()  # type: ignore[attr-defined]
        if name == "text":
            own = {k: a for k, a in state.arrays.items() if not _same(shared.setdefault(k, a), a)}
            state = State(own, state.meta)
        states[name] = state
    for d, fitted in side.fitted.items():
        arrays = {name: getattr(fitted, name) for name in _VALIDATION}
        meta = {"weights": fitted.weights, "newcomer_weights": fitted.newcomer_weights}
        states[f"validation-{d}"] = State(arrays, meta)
    return states


def _same(one: Array, other: Array) -> bool:
    return one is other or (one.dtype == other.dtype and np.array_equal(one, other))


def _side_meta(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "n_domains": side.n_domains,
        "parts": list(side.parts),
        "weights": _by_domain(side.blend.weights),
        "newcomers": _by_domain(side.blend.newcomers),
        "fitted": list(side.fitted),
        "logs": {stage: vars(log) for stage, log in side.logs.items()},
        "seconds": side.seconds,
    }


def _by_domain(weights: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {str(d): dict(of_part) for d, of_part in weights.items()}


def _side(
    saved: Checkpoint, name: str, described: Mapping[str, Any], features: Sequence[ItemFeatures]
) -> Side:
    # Folders written before domains could join have no number: a side knows them all.
    known = features[: described.get("n_domains")]
    neural = NeuralScorer.from_state(saved.state(f"{name}/neural"), known)
    parts: dict[str, Scorer] = {}
    for part in described["parts"]:
        if part == "neural":
            parts[part] = neural
            continue
        state = saved.state(f"{name}/{part}")
        if part == "text":
            common = saved.state(_texts_of(name)).arrays
            state = State({**common, **state.arrays}, state.meta)
        parts[part] = _PARTS[part](state)
    fitted = {}
    for d in described["fitted"]:
        state = saved.state(f"{name}/validation-{d}")
        # Folders written by older versions hold the first ones only.
        arrays: dict[str, Any] = {
            name: state.arrays[name].astype(kind)
            for name, kind in _VALIDATION.items()
            if name in state.arrays
        }
        fitted[int(d)] = FittedWeights(
            state.meta["weights"], **arrays, newcomer_weights=state.meta.get("newcomer_weights")
        )
    weights, newcomers = (
        {int(d): of_part for d, of_part in described.get(kind, {}).items()}
        for kind in ("weights", "newcomers")
    )
    return Side(
        name=described["name"],
        neural=neural,
        parts=parts,
        blend=Blend(parts, weights, newcomers=newcomers, name=described["name"]),
        fitted=fitted,
        logs={stage: Log(**log) for stage, log in described["logs"].items()},
        seconds=dict(described["seconds"]),
    )


def _gate(gate: Mapping[str, Any]) -> GateDecision:
    """JSON has no tuples; folders written before people were gated by group have no slices."""
    slices = [
        SliceGate(**{**part, **{name: _tuple(part[name]) for name in ("measured", "shrunk")}})
        for part in gate.get("slices", ())
    ]
    return GateDecision(**{**gate, "relative": _tuple(gate["relative"]), "slices": tuple(slices)})


def _tuple(values: Sequence[float] | None) -> Any:
    return None if values is None else tuple(values)
