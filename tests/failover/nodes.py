"""Three PostgreSQL nodes under Patroni, and the etcd that they agree in, with the configuration in deploy/."""

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import yaml

from setup import failover as installed
from setup import postgres
from tests.failover.programs import Program
from tests.failover.switch import Switch
from tests.gateways.bank import ROOT, free_port, until
from tests.postgres import _give_to_server

CONFIGURATION = ROOT / "deploy" / "patroni.yml"
SHIPPED_NETWORK = "10.0.0.0/24"


def start_etcd(folder: Path, address: str) -> tuple[Program, str]:
    """Start one etcd. Return it with its address. (A real cluster has three.)"""
    data = folder / "etcd"
    data.mkdir(mode=0o700)
    _give_to_server(str(data))
    client, peer = (f"http://{address}:{free_port()}" for _ in range(2))
    options = {
        "data-dir": data, "name": "e", "listen-client-urls": client, "advertise-client-urls": client,
        "listen-peer-urls": peer, "initial-advertise-peer-urls": peer, "initial-cluster": f"e={peer}",
    }  # fmt: skip
    program = Program([installed.find("etcd"), *(f"--{name}={value}" for name, value in options.items())],
                      folder / "etcd.log")  # fmt: skip
    program.start()
    until(lambda: _answers(f"{client}/health"), 60)
    return program, client.removeprefix("http://")


def copy_patroni(folder: Path) -> list[str]:
    """Copy Patroni to where the user that runs PostgreSQL can read it. Return the words that start its Python."""
    shutil.copytree(installed.patroni(), folder / "python" / "patroni")
    return ["env", f"PYTHONPATH={folder / 'python'}", installed.PATRONI_PYTHON]


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    return False


@dataclass
class Node:
    """One Patroni with its PostgreSQL."""

    name: str
    folder: Path
    python: list[str]
    etcd: str
    synchronous: bool
    switch: Switch | None
    address: str = "127.0.0.1"
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))
    program: Program = field(init=False)

    def __post_init__(self) -> None:
        plug = None
        if self.switch:
            self.address, self.ports = self.switch.address(self.name), (5432, 8008)
            plug = lambda pid: self.switch.plug(self.name, pid)  # type: ignore[union-attr]  # noqa: E731
        self.folder.mkdir()
        _give_to_server(str(self.folder))
        self.file.write_text(yaml.safe_dump(self._configuration()))
        self.program = Program([*self.python, "-m", "patroni", str(self.file)], self.folder / "log", plug)

    @property
    def file(self) -> Path:
        return self.folder / "patroni.yml"

    @property
    def rest(self) -> str:
        return f"http://{self.address}:{self.ports[1]}"

    def _configuration(self) -> dict[str, Any]:
        """Return the shipped configuration with what differs here: addresses, folders, no watchdog, no fsync."""
        found: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
        listen, rest = (f"{self.address}:{port}" for port in self.ports)
        found |= {"name": self.name, "etcd3": {"hosts": self.etcd}, "watchdog": {"mode": "off"}}
        found["restapi"] = {"listen": rest, "connect_address": rest}
        network = self.switch.network if self.switch else "127.0.0.0/8"
        found["postgresql"] |= {
            "listen": listen, "connect_address": listen, "data_dir": str(self.folder / "data"),
            "bin_dir": str(postgres.find()), "pgpass": str(self.folder / "pgpass"),
            "pg_hba": [line.replace(SHIPPED_NETWORK, network) for line in found["postgresql"]["pg_hba"]],
            "parameters": {"unix_socket_directories": str(self.folder), "fsync": "off", "shared_buffers": "64MB",
                           "log_line_prefix": "%m [%p] %q%a@%h ", "log_replication_commands": "on"},
        }  # fmt: skip
        dcs = found["bootstrap"]["dcs"]
        dcs |= {"synchronous_mode": self.synchronous, "synchronous_mode_strict": self.synchronous}
        return found

    def is_leader(self) -> bool:
        """Return whether Patroni says so."""
        return _answers(f"{self.rest}/primary")

    def connection(self) -> dict[str, Any]:
        """Return what connects to its PostgreSQL as the superuser."""
        user = yaml.safe_load(CONFIGURATION.read_text())["postgresql"]["authentication"]["superuser"]
        return {"host": self.address, "port": self.ports[0], "user": user["username"], "password": user["password"],
                "dbname": "postgres", "connect_timeout": 5}  # fmt: skip

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser. Return its rows."""
        connection = psycopg2.connect(**self.connection())
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def freeze(self) -> None:
        """Stop Patroni and PostgreSQL with SIGSTOP: their kernel still accepts connections, and nobody answers."""
        self.program.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.program.signal(signal.SIGCONT)

    def freeze_patroni(self) -> None:
        """Stop Patroni, but not its PostgreSQL, which goes on as if it still led."""
        os.kill(self.program.main, signal.SIGSTOP)

    def thaw_patroni(self) -> None:
        os.kill(self.program.main, signal.SIGCONT)


@dataclass
class Nodes:
    """Three nodes."""

    all: list[Node]
    etcd: Program

    def start(self) -> None:
        """Start them, and wait until two follow the third, which was the first to hold the leader's key."""
        for node in self.all:
            node.program.start()
        until(self.are_whole, 120)

    def leader(self) -> Node | None:
        return next((node for node in self.all if node.is_leader()), None)

    def must_lead(self) -> Node:
        """Return the leader. Fail if there is none."""
        leader = self.leader()
        assert leader, "no node is the leader"
        return leader

    def are_whole(self) -> bool:
        """Return whether there is a leader that the two others follow, synchronously if they must."""
        leader = self.leader()
        if leader is None or not all(_answers(f"{node.rest}/replica") for node in self.all if node is not leader):
            return False
        wanted = "sync" if self.all[0].synchronous else "async"
        query = "SELECT count(DISTINCT application_name) FROM pg_stat_replication"
        with contextlib.suppress(psycopg2.Error):
            found = leader.execute(f"{query} WHERE state = 'streaming' AND sync_state = '{wanted}'")
            return found == [(len(self.all) - 1,)]
        return False

    def switch_over(self) -> None:
        """Let the leader hand over to another node, as an operator does."""
        leader = self.must_lead()
        other = next(node for node in self.all if node is not leader)
        command = [*leader.python, "-c", "from patroni.ctl import ctl; ctl()", "-c", str(leader.file), "switchover",
                   "--force", "--leader", leader.name, "--candidate", other.name]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    def close(self) -> None:
        for program in (*(node.program for node in self.all), self.etcd):
            program.close()
