"""What happens to behaviour that arrives while a model is in use."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator

from isthmus.config.section import Section


class OnlineConfig(Section):
    """The event log: where it is, what it takes, how long it keeps it."""

    log: Path | str | None = Field(
        None,
        description="A file (SQLite), or `postgresql://USER@HOST/DATABASE`, with the password in "
        "PGPASSWORD or ~/.pgpass; None: events.db in the current folder.",
    )
    retention_days: float | None = Field(
        None,
        gt=0,
        description="`isthmus events compact`, and `isthmus update` while it goes on, delete older "
        "records; None: none.",
    )
    max_skew_seconds: float = Field(
        300.0, ge=0, description="How far ahead of the log's clock a record may be."
    )
    max_age_days: float | None = Field(
        None,
        gt=0,
        description="How far behind it a record may be; None: any distance, back to 1970.",
    )
    max_id_chars: int = Field(
        256, ge=1, le=512, description="Longest id, domain name or kind of event."
    )
    kinds: list[str] | None = Field(
        None, min_length=1, description="Types of events that are taken; None: any."
    )

    @field_validator("log", mode="before")
    @classmethod
    def _files_are_paths(cls, log: object) -> object:
        return Path(log) if isinstance(log, str) and "://" not in log else log

    @field_validator("log")
    @classmethod
    def _passwords_stay_out(cls, log: Path | str | None) -> Path | str | None:
        if isinstance(log, str):
            url = urlsplit(log)
            if url.scheme not in ("postgresql", "postgres"):
                raise ValueError(f"{url.scheme}:// is no event log: name a file or postgresql://…")
            if url.password or "password" in parse_qs(url.query):
                raise ValueError(
                    "the URL holds a password, which would be copied into every saved model. Put "
                    "it into PGPASSWORD or ~/.pgpass"
                )
        return log

    @property
    def place(self) -> Path | str:
        """Where the event log is."""
        return Path("events.db") if self.log is None else self.log
