"""API keys: who may call, and what for.

A key is `isk_ID_SECRET`. The file holds each key's id, roles, expiry and the hash of its secret,
never the secret, which has 256 random bits and so needs no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

from isthmus.errors import ConfigError, IsthmusError, did_you_mean

_PREFIX, _DUMMY = "isk", hashlib.sha256(b"").hexdigest()
_LOOK_SECONDS = 1.0


class Role(StrEnum):
    """What a key is good for; `admin` is good for everything."""

    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


class NotAllowed(IsthmusError):
    """A key that is missing, unknown, expired, or not good for this.

    Attributes:
        known: whether the caller has shown a sound key, which lacks the role.
    """

    def __init__(self, what: str, hint: str, *, known: bool = False) -> None:
        super().__init__(what, where="Authorization", hint=hint)
        self.known = known


@dataclass(frozen=True)
class Key:
    """One key as the file holds it.

    Attributes:
        id: public part.
        roles: what it is good for.
        hash: SHA-256 of the secret, hexadecimal.
        made: Unix seconds.
        expires: Unix seconds; None: never.
        note: whose it is.
    """

    id: str
    roles: tuple[str, ...]
    hash: str
    made: float
    expires: float | None = None
    note: str = ""

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= time.time()


class KeyFile:
    """The keys of a file, read again when it changes.

    Args:
        path: JSON; see `add`.

    Raises:
        ConfigError: no such file, or not one of keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int] | None = None
        self._looked = 0.0
        self._keys: dict[str, Key] = {}
        self.keys()

    def keys(self) -> dict[str, Key]:
        """Keys by id."""
        self._looked = time.monotonic()
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                found = json.loads(self.path.read_text("utf-8"))["keys"]
                keys = [Key(**{**entry, "roles": tuple(entry["roles"])}) for entry in found]
                self._keys, self._stamp = {key.id: key for key in keys}, stamp
        except FileNotFoundError:
            raise ConfigError(
                "no such file of keys",
                where=str(self.path),
                hint="Make one with 'isthmus keys add'",
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"no readable file of keys: {error}",
                where=str(self.path),
                hint="Restore it, or make another with 'isthmus keys add'",
            ) from None
        return self._keys

    def check(self, token: str | None, role: Role) -> Key:
        """The key that a caller has shown, if it is good for a role.

        Raises:
            NotAllowed: it is not; every way takes the same time to say so.
        """
        self._look_again()
        prefix, _, rest = (token or "").partition("_")
        name, _, secret = rest.partition("_")
        key = self._keys.get(name) if prefix == _PREFIX else None
        shown = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
        sound = hmac.compare_digest(shown, key.hash if key is not None else _DUMMY)
        if token is None:
            raise NotAllowed("a key is needed", "Send it as 'Authorization: Bearer isk_…'")
        if key is None or not sound:
            raise NotAllowed("no such key", "Check it, or have one made with 'isthmus keys add'")
        if key.expired:
            raise NotAllowed("the key has expired", "Have another made with 'isthmus keys add'")
        if role not in key.roles and Role.ADMIN not in key.roles:
            raise NotAllowed(
                f"the key is good for {' and '.join(key.roles)}, this needs {role}",
                f"Use a key with the role {role}",
                known=True,
            )
        return key

    def sound(self, name: str) -> Key | None:
        """The key of that id, unless it was revoked or has expired."""
        self._look_again()
        key = self._keys.get(name)
        return None if key is None or key.expired else key

    def _look_again(self) -> None:
        if time.monotonic() - self._looked <= _LOOK_SECONDS:
            return
        # A file that has gone or is being edited leaves the keys as they were.
        try:
            self.keys()
        except ConfigError:
            self._looked = time.monotonic()


def add_key(
    path: Path, roles: list[str], *, days: float | None = None, note: str = ""
) -> tuple[Key, str]:
    """Make a key and write it to the file, made where it is missing, readable by its owner alone.

    Args:
        path: the file.
        roles: names of roles, at least one.
        days: until it expires; None: never.
        note: whose it is.

    Returns:
        The key, and the text to give to whoever will use it; it is written nowhere.

    Raises:
        ConfigError: an unknown role, or the file cannot be read or written.
    """
    for role in roles:
        if role not in list(Role):
            raise ConfigError(
                f"no role is called {role!r}",
                hint=did_you_mean(role, [known.value for known in Role]),
            )
    if not roles:
        raise ConfigError("a key without a role is good for nothing", hint="Name one with --role")
    now, secret = time.time(), secrets.token_urlsafe(32)
    key = Key(
        id=secrets.token_hex(4),
        roles=tuple(dict.fromkeys(roles)),
        hash=hashlib.sha256(secret.encode()).hexdigest(),
        made=now,
        expires=None if days is None else now + days * 86_400,
        note=note,
    )
    known = list(KeyFile(path).keys().values()) if path.exists() else []
    _write(path, [*known, key])
    return key, f"{_PREFIX}_{key.id}_{secret}"


def revoke_key(path: Path, name: str) -> Key:
    """Take a key out of the file; a running service refuses it within a second.

    Raises:
        ConfigError: no such key, or the file cannot be written.
    """
    known = dict(KeyFile(path).keys())
    if name not in known:
        raise ConfigError(
            f"no key has the id {name!r}", where=str(path), hint=did_you_mean(name, known)
        )
    gone = known.pop(name)
    _write(path, list(known.values()))
    return replace(gone, hash="")


def _write(path: Path, keys: list[Key]) -> None:
    content = json.dumps({"keys": [asdict(key) for key in keys]}, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as aside:
            aside.write(content)
            aside.flush()
            os.fsync(aside.fileno())
        os.replace(aside.name, path)
    except OSError as error:
        raise ConfigError(
            f"cannot be written: {error.strerror}", where=str(path), hint="Choose another place"
        ) from None
