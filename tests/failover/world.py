"""A whole deployment on this machine: three nodes under Patroni, HAProxy and pgbouncer, and an empty database."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from tests.failover.front import haproxy, pgbouncer
from tests.failover.keys import keys_noted
from tests.failover.nodes import Node, Nodes, copy_patroni, start_etcd
from tests.failover.switch import Switch
from tests.gateways.bank import until
from tests.postgres import SESSION

DATABASE, USER, PASSWORD = "payonce", "shop", "secret"


@dataclass
class World:
    """`by_haproxy` and `by_pgbouncer` are ports of 127.0.0.1."""

    nodes: Nodes
    by_haproxy: int
    by_pgbouncer: int
    switch: Switch | None

    @property
    def urls(self) -> dict[str, str]:
        """Return each form of DATABASE_URL that docs/high-availability.md shows, by what stands in between."""
        several = ",".join(f"{node.address}:{node.ports[0]}" for node in self.nodes.all)
        start = f"postgresql://{USER}:{PASSWORD}@"
        return {
            "nothing": f"{start}{several}/{DATABASE}?target_session_attrs=read-write",
            "HAProxy": f"{start}127.0.0.1:{self.by_haproxy}/{DATABASE}",
            "pgbouncer and HAProxy": f"{start}127.0.0.1:{self.by_pgbouncer}/{DATABASE}",
        }

    def leads_to_the_leader(self) -> bool:
        """Return whether each address does. HAProxy takes every node for the leader until it has asked them all."""
        with suppress(psycopg2.Error):
            return all(self._is_writable(url) for url in self.urls.values())
        return False

    @staticmethod
    def _is_writable(url: str) -> bool:
        connection = psycopg2.connect(url, connect_timeout=5)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT NOT pg_is_in_recovery()")
                return bool(cursor.fetchone()[0])
        finally:
            connection.close()


@contextmanager
def _kept_if_it_fails(folder: Path, kept: Path | None) -> Iterator[None]:
    """Copy the logs of all programs to `kept` if the block raises."""
    try:
        yield
    except BaseException:
        if kept:
            for log in [*folder.glob("*/log"), *folder.glob("*.log")]:
                target = kept / log.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(log, target)
        raise


@contextmanager
def world(*, synchronous: bool = True, links: bool = False, kept: Path | None = None) -> Iterator[World]:
    """Yield a deployment that is whole. With `links`, each node has a network of its own whose link can go down.

    If the block raises, the logs of the nodes, HAProxy, pgbouncer and etcd are copied to `kept`.
    """
    folder = Path(tempfile.mkdtemp(prefix="failover-", dir=os.environ.get(SESSION, "/tmp")))
    folder.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.enter_context(_kept_if_it_fails(folder, kept))
        switch = Switch(folder) if links else None
        if switch:
            stack.callback(switch.close)
        etcd, address = start_etcd(folder, switch.host if switch else "127.0.0.1")
        stack.callback(etcd.close)
        python, names = copy_patroni(folder), ("db1", "db2", "db3")
        nodes = Nodes([Node(name, folder / name, python, address, synchronous, switch) for name in names], etcd)
        stack.callback(nodes.close)
        stack.enter_context(keys_noted(address, folder / "keys.log"))
        nodes.start()
        balancer, port = haproxy(folder, [(node.name, node.address, node.ports) for node in nodes.all])
        stack.callback(balancer.close)
        pooler, pooler_port = pgbouncer(folder, {"host": "127.0.0.1", "port": port}, {USER: PASSWORD})
        stack.callback(pooler.close)
        leader = nodes.leader()
        assert leader
        leader.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        leader.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        found = World(nodes, port, pooler_port, switch)
        until(found.leads_to_the_leader, 60)
        yield found
