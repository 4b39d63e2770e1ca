"""A PostgreSQL server of a test's own, from the binaries of this machine, on loopback."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

from millstream.testing.child import StartFailed, end, last_lines, spawn, wait_until, with_tests
from millstream.testing.ports import free_ports

READY_WITHIN_SECONDS = 30.0


class PostgreSQL:
    """A running server whose superuser needs no password; `url` is its one database.

    `settings` are those of postgresql.conf, such as `wal_level="logical"`.

    It refuses to run as root; a test that does hands it to the user `postgres`, which Debian's package makes. Raises
    `StartFailed` where the binaries or that user are missing, or it does not start. Use it as a context manager:

        with PostgreSQL() as server:
            create_engine(server.url)
    """

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        self._user = "postgres" if os.getuid() == 0 else None
        self._folder = Path(mkdtemp(prefix="millstream-postgresql-"))
        self._output = self._folder / "output.log"
        self._process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)
        self.url = f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start it on its data, and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "shared_buffers": "16MB",
            "max_connections": 40,
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [_binary("postgres"), "-D", str(self._folder / "data"), *options]
        self._process = spawn(self._as_user(command), output=self._output)
        wait_until(self._answers, seconds=READY_WITHIN_SECONDS, what="PostgreSQL is ready", every=0.05)

    def kill(self) -> None:
        """End it and its children with SIGKILL, as a crash would."""
        if self._process is not None:
            # Each leads a process group of its own, and the next server refuses to start while one is left.
            self._process.send_signal(signal.SIGSTOP)  # so that it makes no more of them
            children = _children(self._process.pid)
            end(self._process, how=signal.SIGKILL)
            self._process = None
            for child in children:
                with contextlib.suppress(ProcessLookupError):  # it is gone already
                    os.kill(child, signal.SIGKILL)
            wait_until(lambda: not any(map(_lives, children)), seconds=READY_WITHIN_SECONDS, what="PostgreSQL is gone")

    def stop(self) -> None:
        """End it and delete its data."""
        if self._process is not None:
            # Its "fast shutdown": connections are closed, not waited for.
            end(self._process, how=signal.SIGINT)
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare(self) -> None:
        self._output.touch()
        if self._user is not None:
            try:
                owner = pwd.getpwnam(self._user)
            except KeyError:
                raise StartFailed("PostgreSQL does not run as root, and there is no user postgres") from None
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        command = [_binary("initdb"), "-D", str(self._folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync"]
        with self._output.open("ab") as output:
            made = subprocess.run(self._as_user(command), stdout=output, stderr=output, timeout=60, check=False)  # noqa: S603
        if made.returncode:
            raise StartFailed(f"initdb failed:\n{last_lines(self._output)}")

    def _as_user(self, command: list[str]) -> list[str]:
        if self._user is None:
            return command
        # setpriv replaces itself by the command, so signals reach the server; su and sudo stay in between.
        # A change of user makes the kernel forget with whom to die.
        fate = ["--pdeathsig=KILL"] if with_tests() else []
        return ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--init-groups", *fate, "--", *command]

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise StartFailed(f"PostgreSQL ended:\n{last_lines(self._output)}")
        import psycopg

        with contextlib.suppress(psycopg.OperationalError):  # not up yet
            psycopg.connect(self.url.replace("+psycopg", ""), connect_timeout=1).close()
            return True
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it is gone already
        return False
    return state != "Z"


def _binary(name: str) -> str:
    """The newest installed one. Debian keeps them off the path, since versions live side by side."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which(name)
    if found is None:
        raise StartFailed(f"{name} is not installed: apt-get install postgresql")
    return found
