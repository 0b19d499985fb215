"""A throwaway PostgreSQL server: its own folder, reachable through a socket there and no other way.

PostgreSQL does not run as root; where we do, it runs as `postgres` or `nobody`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path


def programs() -> Path | None:
    """The folder with initdb and pg_ctl; None where PostgreSQL is not installed."""
    found = [Path(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"))]
    if (on_path := shutil.which("pg_ctl")) is not None:
        found.append(Path(on_path).resolve().parent)
    if (told := shutil.which("pg_config")) is not None:
        run = subprocess.run([told, "--bindir"], capture_output=True, text=True, check=False)
        found.append(Path(run.stdout.strip()))
    usable = [folder for folder in found if (folder / "initdb").exists()]
    return usable[-1] if usable else None


class Cluster:
    """A server, started.

    Args:
        durable: whether it flushes to disk; not needed where only processes are killed.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """

    def __init__(self, *, durable: bool = True) -> None:
        where = programs()
        if where is None:
            raise FileNotFoundError("PostgreSQL is not installed: no initdb in the usual places")
        self._programs, self._durable = where, durable
        # Sockets have short names, so not the deep folders that pytest makes.
        self.folder = Path(tempfile.mkdtemp(prefix="isthmus-pg-"))
        self._user = self._owner()
        self._numbers = count(1)
        flags = ["-A", "trust", "-U", "isthmus", "-E", "UTF8", "--no-sync"]
        self._run("initdb", "-D", str(self.folder / "data"), *flags)
        self.start()

    def start(self) -> None:
        """Start, or start again."""
        settings = (
            f"-k {self.folder} -c listen_addresses='' -c fsync={'on' if self._durable else 'off'}"
        )
        log = str(self.folder / "log")
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-o", settings, "-w", "start"
        )

    def stop(self, how: str = "immediate") -> None:
        """Stop; `immediate` leaves connections and memory as a crash would."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", how, "-w", "stop")

    def kill(self) -> None:
        """SIGKILL the server, all its processes; the next start recovers from its log."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGSTOP)  # so that it makes no more
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        processes = [pid, *map(int, children)]
        for process in processes:
            os.kill(process, signal.SIGKILL)
        while any(runs(process) for process in processes):
            time.sleep(0.01)
        # Where nobody collects the dead, their numbers look taken, and locks by number held.
        (self.folder / "data" / "postmaster.pid").unlink()
        (self.folder / ".s.PGSQL.5432.lock").unlink()

    def fresh(self) -> str:
        """URL of a new, empty schema."""
        name = f"log{next(self._numbers)}"
        where = ("-h", str(self.folder), "-U", "isthmus", "-d", "postgres")
        self._run("psql", *where, "-c", f"CREATE SCHEMA {name}")
        url = f"postgresql://isthmus@/postgres?host={self.folder}"
        return f"{url}&options=-csearch_path%3D{name}"

    def close(self) -> None:
        """Stop, and remove everything."""
        subprocess.run(
            self._as_owner("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop"),
            capture_output=True,
            check=False,
        )
        shutil.rmtree(self.folder, ignore_errors=True)

    def _owner(self) -> str | None:
        if os.getuid() != 0:
            return None
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        owner = known.get("postgres") or known["nobody"]
        os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        return owner.pw_name

    def _as_owner(self, program: str, *words: str) -> Sequence[str]:
        # It stands where root's path leads, which a plain user's path may not.
        runuser = shutil.which("runuser", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        before = [] if self._user is None else [runuser or "runuser", "-u", self._user, "--"]
        return [*before, str(self._programs / program), *words]

    def _run(self, program: str, *words: str) -> None:
        # pg_ctl's server would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                self._as_owner(program, *words), stdout=said, stderr=said, check=False, cwd="/"
            )
            if done.returncode:
                said.seek(0)
                raise RuntimeError(f"{program} failed: {said.read()}")


def runs(process: int) -> bool:
    """Whether it is there, and not merely waiting to be collected."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
