"""HAProxy and pgbouncer in front of the nodes, with the configuration in deploy/."""

import configparser
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from setup import failover as installed
from tests.failover.programs import Program
from tests.gateways.bank import ROOT, free_port, until
from tests.postgres import _give_to_server

HAPROXY, PGBOUNCER = ROOT / "deploy" / "haproxy-postgres.cfg", ROOT / "deploy" / "pgbouncer.ini"

Ports = tuple[int, int]


def haproxy(folder: Path, nodes: Sequence[tuple[str, str, Ports]]) -> tuple[Program, int]:
    """Start HAProxy before these nodes: name, address, and ports of PostgreSQL and Patroni. Return it with its port."""
    port, text = free_port(), HAPROXY.read_text()
    for name, address, (database, rest) in nodes:
        text, count = re.subn(rf"server {name} \S+ check port \d+",
                              f"server {name} {address}:{database} check port {rest}", text)  # fmt: skip
        assert count == 1, name
    text = re.sub(r"bind \S+", f"bind 127.0.0.1:{port}", text)
    file = folder / "haproxy.cfg"
    file.write_text(text)
    program = Program([installed.find("haproxy"), "-db", "-f", str(file)], folder / "haproxy.log")
    program.start()
    until(lambda: listens(port), 60)
    return program, port


def pgbouncer(folder: Path, server: dict[str, str | int], users: dict[str, str]) -> tuple[Program, int]:
    """Start pgbouncer before this server, for all its databases. Return it with its port."""
    port, own = free_port(), folder / "pgbouncer"
    own.mkdir()
    settings = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    settings.read(PGBOUNCER)
    settings["databases"] = {"*": " ".join(f"{name}={value}" for name, value in server.items())}
    settings["pgbouncer"].update({"listen_port": str(port), "auth_file": str(own / "users"), "unix_socket_dir": "",
                                  "logfile": str(own / "log"), "pidfile": str(own / "pid")})  # fmt: skip
    (own / "users").write_text("".join(f'"{user}" "{password}"\n' for user, password in users.items()))
    with (own / "pgbouncer.ini").open("w") as file:
        settings.write(file)
    _give_to_server(str(own))
    program = Program([installed.find("pgbouncer"), str(own / "pgbouncer.ini")], folder / "pgbouncer.log")
    program.start()
    until(lambda: listens(port), 60)
    return program, port


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False
