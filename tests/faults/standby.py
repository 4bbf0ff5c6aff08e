"""A real PostgreSQL primary with a standby, synchronous or not, that can be frozen, woken and promoted."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.gateways.bank import until
from tests.postgres import Cluster, private_cluster

NAME = "standby"
CAUGHT_UP = "SELECT replay_lsn = pg_current_wal_lsn() FROM pg_stat_replication"


class Pair:
    """A primary and one standby. If it is synchronous, commits wait for it."""

    def __init__(self, primary: Cluster, standby: Cluster) -> None:
        self.primary, self.standby = primary, standby

    def freeze(self) -> None:
        """Stop every process of the standby with SIGSTOP. Its connections stay open, but it does not respond."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it continue, and wait until it follows the primary again."""
        self._signal(signal.SIGCONT)
        until(self._follows, 60)

    def promote(self) -> Cluster:
        """Stop the primary as a lost machine would, make the standby the new primary, and return it.

        What the frozen standby had not read from its socket is lost with the primary.
        """
        for pid in self._processes():
            if b"walreceiver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
        self.primary.stop("immediate")
        self._signal(signal.SIGCONT)
        self.standby._control("promote")
        return self.standby

    def catch_up(self) -> None:
        """Wait until the standby has everything that is committed now."""
        until(lambda: self.primary.execute(CAUGHT_UP) == [(True,)], 60)

    def _follows(self) -> bool:
        return self._state() is not None

    def _state(self) -> str | None:
        """Return "sync" or "async", or None if the standby does not follow the primary."""
        found = self.primary.execute("SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'")
        return str(found[0][0]) if found else None

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _processes(self) -> list[int]:
        """Return the pids of the standby's postmaster and its children."""
        postmaster = int((self.standby.data / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        return [postmaster, *map(int, children)]


@contextlib.contextmanager
def pair(*, synchronous: bool = True) -> Iterator[Pair]:
    """Yield a primary and its standby, for one test or module. Remove them at the end."""
    with private_cluster() as primary:
        standby = Cluster.make()
        found = None
        try:
            query = f"--dbname=host={primary.folder} port=5432 user=payonce application_name={NAME}"
            primary._program("pg_basebackup", f"--pgdata={standby.data}", "--write-recovery-conf", query, "--no-sync")
            with (standby.data / "postgresql.conf").open("a") as file:
                file.write(f"unix_socket_directories='{standby.folder}'\n")
            standby.start()
            found = Pair(primary, standby)
            if synchronous:
                primary.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'")
                primary.execute("SELECT pg_reload_conf()")
            until(lambda: found._state() == ("sync" if synchronous else "async"), 60)
            yield found
        finally:
            if found:
                with contextlib.suppress(OSError):
                    found._signal(signal.SIGCONT)
            standby.destroy()
