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
from tests.failover.nodes import Node, Nodes, start_etcd
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
def world(*, synchronous: bool = True, links: bool = False) -> Iterator[World]:
    """Yield a deployment that is whole. With `links`, each node has a network of its own whose link can go down."""
    folder = Path(tempfile.mkdtemp(prefix="failover-", dir=os.environ.get(SESSION, "/tmp")))
    folder.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        switch = Switch(folder) if links else None
        if switch:
            stack.callback(switch.close)
        etcd, address = start_etcd(folder, switch.host if switch else "127.0.0.1")
        stack.callback(etcd.close)
        nodes = Nodes([Node(name, folder / name, address, synchronous, switch) for name in ("db1", "db2", "db3")], etcd)
        stack.callback(nodes.close)
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
