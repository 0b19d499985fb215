"""Runs the service on granian: checks everything first, then starts the workers."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from isthmus.config import Config, ServingConfig
from isthmus.errors import ConfigError, RequestError
from isthmus.online.claim import sole_service
from isthmus.online.intake import Limits
from isthmus.online.log import EventLog, open_log
from isthmus.serving.belonging import check_belongs, learnt_of
from isthmus.serving.keys import KeyFile
from isthmus.training.checkpoint import read_folder

if TYPE_CHECKING:
    from isthmus.serving.keeper import Keeper

_SETTINGS, _SECRET = "ISTHMUS_SERVING", "ISTHMUS_SERVING_SECRET"
_METRICS = "PROMETHEUS_MULTIPROC_DIR"
DEFAULT_LOG = Path("events.db")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MOST_CONNECTIONS, _HEADER_MILLISECONDS = 1024, 10_000
_LOOK_SECONDS, _GRACE_SECONDS = 0.5, 10.0
_SELDOM_SECONDS = 60.0
_TURN_SECONDS = 0.0005
"""What one thread may keep the interpreter for while another wants it. After each product of an
answer its thread waits for the loop that takes events, by default for up to 5 ms."""


@dataclass(frozen=True)
class Settings:
    """What every worker is told.

    Attributes:
        model: the model's folder.
        log: file or URL of the event log; None: as the model's configuration says.
        keys: file of keys; None: anybody may call, on this machine alone.
        exports: folder for batch exports.
        overrides: `serving.key=value` over what the model's configuration says.
        docs: serve a page at /docs.
        run: folder of a comparison whose figures the dashboard shows; None: none.
    """

    model: str
    log: str | None
    keys: str | None
    exports: str
    overrides: tuple[str, ...] = ()
    docs: bool = False
    run: str | None = None


def serve(settings: Settings, *, host: str, port: int, workers: int) -> None:
    """Serve until stopped by SIGTERM or Ctrl-C.

    Args:
        settings: what to serve.
        host: address to listen on; without keys only one of this machine.
        port: to listen on.
        workers: processes, each with the whole model, and with one that answers beside it.

    Raises:
        RequestError: the address cannot be had, or is open to others without keys.
        ConfigError: the file of keys, or an override, cannot be understood.
        CheckpointError: the model cannot be loaded, or the run not be read.
        LogError: the log cannot be used, or is not the model's.
    """
    if settings.keys is None and host not in LOOPBACK:
        raise RequestError(
            f"without keys the service would be open to whoever reaches {host}",
            where="--no-auth",
            hint="Listen on 127.0.0.1, or name a file of keys with --keys",
        )
    _free(host, port)
    config = _checked(settings)
    os.environ[_SETTINGS] = json.dumps(asdict(settings))
    os.environ[_SECRET] = secrets.token_hex(32)
    # Threads of matrix products would fight over the cores with the other workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with sole_service(_log_of(settings, config)), tempfile.TemporaryDirectory() as numbers:
        if workers > 1 or config.serving.own_process:
            os.environ[_METRICS] = numbers
        from granian import Granian
        from granian.constants import Interfaces, Loops
        from granian.http import HTTP1Settings

        Granian(
            "isthmus.serving.run:from_environment",
            address=host,
            port=port,
            workers=workers,
            factory=True,
            interface=Interfaces.ASGI,
            loop=Loops.uvloop,
            backlog=_MOST_CONNECTIONS,
            http1_settings=HTTP1Settings(header_read_timeout=_HEADER_MILLISECONDS),
            log_access=False,
            respawn_failed_workers=True,
            workers_kill_timeout=math.ceil(config.serving.timeout + _GRACE_SECONDS),
            websockets=False,
        ).serve()


def from_environment() -> ASGIApp:
    """A worker's application, by the settings that `serve` left in the environment."""
    # A forked worker has the handlers of the process that started it: asked to stop before it has
    # its own, it would go on, and be waited for without end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    settle_in()
    threading.Thread(target=_outlive_nobody, args=(os.getppid(),), daemon=True).start()
    return application(settings_told(), bytes.fromhex(os.environ[_SECRET]))


def settle_in() -> None:
    """What every process of the service does first."""
    from isthmus.threads import use_threads

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    use_threads(1)
    sys.setswitchinterval(_TURN_SECONDS)


def settings_told() -> Settings:
    """The settings that `serve` left in the environment."""
    found = json.loads(os.environ[_SETTINGS])
    return Settings(**{**found, "overrides": tuple(found["overrides"])})


def _outlive_nobody(parent: int) -> None:
    """End this worker once the process that started it is gone.

    That process may have been killed outright. Its workers would hold the port, with nobody left to
    stop them, and the next service could not start.
    """
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def application(settings: Settings, secret: bytes) -> ASGIApp:
    """The application as settings say; it warms up while it answers that it is not ready.

    Args:
        settings: what to serve.
        secret: signs the dashboard's sessions, the same for all workers.
    """
    from isthmus.experiment.records import read_run
    from isthmus.serving.app import make_app
    from isthmus.serving.exports import Exports
    from isthmus.serving.process_answers import ProcessAnswers
    from isthmus.serving.service import Service

    keeper, config = keeper_of(settings, recommends=False)
    keeper.start(wait=False)
    answers = ProcessAnswers(most_waiting=config.max_waiting) if config.own_process else None
    service = Service(keeper, config, Exports(Path(settings.exports), keeper), answers)
    keys = None if settings.keys is None else KeyFile(Path(settings.keys))
    run = None if settings.run is None else read_run(Path(settings.run))
    return make_app(service, keys, docs=settings.docs, secret=secret, run=run)


def keeper_of(settings: Settings, *, recommends: bool = True) -> tuple[Keeper, ServingConfig]:
    """What a process of the service answers from, not started yet; and its bounds.

    Args:
        settings: what to serve.
        recommends: whether this process does, if another can. One that does not counts what is
            popular for exports alone, so more seldom.
    """
    from isthmus.online.catalogue import open_catalogue
    from isthmus.serving.keeper import Keeper

    config, _ = _configured(settings)
    seldom = 0.0 if recommends or not config.serving.own_process else _SELDOM_SECONDS
    keeper = Keeper(
        Path(settings.model),
        _opened(settings, config),
        open_catalogue(_log_of(settings, config)),
        poll_seconds=config.serving.poll_seconds,
        count_seconds=max(config.serving.count_seconds, seldom),
        settled=_set_aside,
    )
    return keeper, config.serving


def _set_aside() -> None:
    """Take what stays as long as a version does out of the garbage collector's sight.

    It would go through catalogue and model now and then, and nobody is answered while it does.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _configured(settings: Settings) -> tuple[Config, tuple[str, int] | None]:
    """The model's configuration with the overrides, and its place in the log it has learnt from."""
    meta = read_folder(settings.model, kind="model").meta
    config = Config.parse(
        meta["config"], overrides=settings.overrides, where="the model's configuration"
    )
    return config, learnt_of(meta)


def _log_of(settings: Settings, config: Config) -> str | Path:
    return settings.log or config.online.log or DEFAULT_LOG


def _opened(settings: Settings, config: Config) -> EventLog:
    return open_log(_log_of(settings, config), limits=Limits.of(config.online))


def _checked(settings: Settings) -> Config:
    """Find out what is wrong before workers start, die and are started again."""
    if settings.keys is not None and not KeyFile(Path(settings.keys)).keys():
        raise ConfigError(
            "no key is in the file, so nobody could call",
            where=settings.keys,
            hint="Add one with 'isthmus keys add'",
        )
    if settings.run is not None:
        from isthmus.experiment.records import read_run

        read_run(Path(settings.run))
    config, learnt = _configured(settings)
    log = _opened(settings, config)
    try:
        check_belongs(learnt, log, settings.model)
    finally:
        log.close()
    return config


def _free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise RequestError(
            f"cannot listen there: {error.strerror or error}",
            where=f"{host}:{port}",
            hint="Choose another --port or --host",
        ) from None
