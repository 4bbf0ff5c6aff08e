"""Find Patroni, etcd, HAProxy and pgbouncer for the failover tests, and install those that are missing.

python -m setup.failover        prints their paths
"""

import shutil
import sys

from setup.apt import apt_install, without_services

PACKAGES = {
    "patroni": "patroni",
    "patronictl": "patroni",
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


def main() -> None:
    """Find them, else install them and find them again. Exit with one line if neither helps."""
    for program, package in PACKAGES.items():
        if path(program) is None:
            with without_services(package):
                apt_install(package, "for the tests")
    if missing := [program for program in PACKAGES if path(program) is None]:
        sys.exit(f"The tests need {', '.join(missing)} and could not install them. Install them and try again.")
    for program in PACKAGES:
        print(find(program))


if __name__ == "__main__":
    main()
