"""A network of namespaces around one bridge, in which links go down. It ends with this process."""

import socket
import subprocess
from pathlib import Path

from tests.failover.programs import Program


class Switch:
    """A bridge in a namespace of its own. `plug` joins another namespace to it; `down` takes that link down."""

    def __init__(self, folder: Path) -> None:
        self._addresses: dict[str, str] = {}
        self._program = Program(["sleep", "infinity"], folder / "switch.log", self._make)
        self._program.start()

    def _make(self, pid: int) -> None:
        self._pid = pid
        self._here = f"switch{pid % 10**8}"
        self._inside("link", "add", "bridge", "type", "bridge")
        self._inside("link", "set", "bridge", "up")
        _ip("link", "add", self._here, "type", "veth", "peer", "name", "host", "netns", str(pid))
        # Half of 198.19.0.0/16 is left to `tests.silence`. The number of the interface makes the network unique.
        self._prefix = f"198.19.{128 + socket.if_nametoindex(self._here) % 128}"
        _ip("addr", "add", f"{self.host}/24", "dev", self._here)
        _ip("link", "set", self._here, "up")
        self._inside("link", "set", "host", "master", "bridge")
        self._inside("link", "set", "host", "up")

    @property
    def host(self) -> str:
        """The address of this process's own network."""
        return f"{self._prefix}.1"

    @property
    def network(self) -> str:
        return f"{self._prefix}.0/24"

    def address(self, name: str) -> str:
        """Return the address of a namespace, which may be plugged later."""
        return self._addresses.setdefault(name, f"{self._prefix}.{11 + len(self._addresses)}")

    def plug(self, name: str, pid: int) -> None:
        """Join the namespace of this process to the bridge."""
        self._inside("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._inside("link", "set", name, "master", "bridge")
        self._inside("link", "set", name, "up")
        for words in (("addr", "add", f"{self.address(name)}/24", "dev", "eth0"), ("link", "set", "eth0", "up"),
                      ("link", "set", "lo", "up")):  # fmt: skip
            _ip(*words, inside=pid)

    def down(self, name: str) -> None:
        """Take a link down: nothing arrives, and nothing is answered."""
        self._inside("link", "set", name, "down")

    def up(self, name: str) -> None:
        self._inside("link", "set", name, "up")

    def close(self) -> None:
        self._program.close()

    def _inside(self, *words: str) -> None:
        _ip(*words, inside=self._pid)


def _ip(*words: str, inside: int | None = None) -> None:
    enter = ["nsenter", f"--net=/proc/{inside}/ns/net"] if inside else []
    subprocess.run([*enter, "ip", *words], check=True, capture_output=True)
