"""Network namespaces, and links to them, for tests of what crosses a network. They need the right to make them."""

import ctypes
import socket
import subprocess
import threading
from ipaddress import IPv4Address

CLONE_NEWNET = 0x40000000
FIRST = IPv4Address("198.18.0.0")
"""The first address of 198.18.0.0/15, which is reserved for tests. Each wire takes four of its addresses."""
HERE_MAC, THERE_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


def leave_network() -> int:
    """Put this thread into a new network namespace. Return its id."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        raise PermissionError(ctypes.get_errno(), "unshare")
    return threading.get_native_id()


def plug(name: str, thread_id: int) -> tuple[IPv4Address, IPv4Address]:
    """Join our network to that of a thread by a link. Return the addresses of both ends.

    The number of the interface makes them unique. The neighbour is entered by hand, because after a failed search for
    it the kernel would report an error, which is not silence.
    """
    ip("link", "add", name, "address", HERE_MAC, "type", "veth",
        "peer", "name", "eth0", "address", THERE_MAC, "netns", str(thread_id))  # fmt: skip
    here = FIRST + 4 * (socket.if_nametoindex(name) % 32768) + 1
    ip("addr", "add", f"{here}/30", "dev", name)
    ip("link", "set", name, "up")
    ip("neigh", "replace", str(here + 1), "lladdr", THERE_MAC, "dev", name, "nud", "permanent")
    return here, here + 1


def ip(*words: str) -> None:
    """Run iproute2. Raises CalledProcessError."""
    subprocess.run(["ip", *words], check=True, capture_output=True)
