"""Install Debian packages: as root, or by sudo if it asks for no password."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program before it starts a service. Exit code 101 forbids it."""


def as_root() -> list[str] | None:
    """Return the words that make a command run as root when put before it, or None if that is not possible."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    return None


def apt_install(package: str, purpose: str) -> bool:
    """Install one package and print one line about it. Return False if that was not possible."""
    root = as_root()
    if root is None or not shutil.which("apt-get"):
        return False
    print(f"Installing {package} by apt-get {purpose} ...", file=sys.stderr, flush=True)
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    update = subprocess.run([*apt, "update"], capture_output=True, text=True)
    install = subprocess.run([*apt, "install", "--no-install-recommends", package], capture_output=True, text=True)
    if install.returncode:
        print((install.stderr or update.stderr).strip(), file=sys.stderr)
    return install.returncode == 0


@contextlib.contextmanager
def without_services(package: str) -> Iterator[None]:
    """Keep a package that is installed inside the block from starting its services, now or at the next boot.

    A policy that exists already stays as it is.
    """
    root = as_root()
    if root is None:
        yield
        return
    own = not POLICY.exists()
    if own:
        write = f"printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}"
        subprocess.run([*root, "sh", "-c", write], check=False)
    try:
        yield
    finally:
        if own:
            subprocess.run([*root, "rm", "-f", str(POLICY)], check=False)
        for service in _services(package):
            subprocess.run([*root, "systemctl", "--quiet", "disable", service], check=False, capture_output=True)


def _services(package: str) -> list[str]:
    """Return the names of the systemd services of an installed package."""
    if not shutil.which("systemctl"):
        return []
    listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True).stdout.split()
    return [Path(line).name for line in listed if line.endswith(".service") and "@" not in line]
