"""Install Debian packages: as root, or by sudo if it asks for no password."""

import os
import shutil
import subprocess
import sys


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
