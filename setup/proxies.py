"""Find nginx, HAProxy and systemd-analyze for the tests of `deploy/`, and install them if they are missing.

python -m setup.proxies        prints their paths
"""

import os
import shutil
import sys

from setup.apt import apt_install, without_services

PACKAGES = {"nginx": "nginx", "haproxy": "haproxy", "systemd-analyze": "systemd"}
"""Program → Debian's package."""


def find(program: str) -> str | None:
    """Return the path of a program, or None. Debian keeps servers in sbin, which users may lack in PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")


def main() -> None:
    """Find them, else install them and find them again. Exit with one line if one is still missing."""
    for program, package in PACKAGES.items():
        if find(program) is None:
            with without_services(package):
                apt_install(package, "for the tests")
        if find(program) is None:
            sys.exit(f"The tests need {program} and it could not be installed.")
        print(find(program))


if __name__ == "__main__":
    main()
