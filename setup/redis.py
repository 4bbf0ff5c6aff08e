"""Find redis-server for the tests, and install it if it is missing.

python -m setup.redis        prints its path
"""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from setup.apt import apt_install, as_root

# Homebrew's folders, which may be missing in PATH.
PLACES = ("/opt/homebrew/bin/redis-server", "/usr/local/bin/redis-server")
POLICY = Path("/usr/sbin/policy-rc.d")
"""Debian asks this program before it starts a service. Exit code 101 forbids it."""


def find() -> Path | None:
    """Return the path of redis-server, or None."""
    found = [shutil.which("redis-server"), *PLACES]
    return next((Path(path) for path in found if path and Path(path).is_file()), None)


def install() -> None:
    """Install Debian's package without starting its service, now or at the next boot. The tests start their own."""
    with _no_services():
        installed = apt_install("redis-server", "for the tests")
    if installed and shutil.which("systemctl"):
        disable = [*(as_root() or []), "systemctl", "--quiet", "disable", "redis-server"]
        subprocess.run(disable, check=False, capture_output=True)


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Keep Debian from starting services inside the block. A policy that exists already stays as it is."""
    root = as_root()
    if root is None or POLICY.exists():
        yield
        return
    write = f"printf '#!/bin/sh\\nexit 101\\n' > {POLICY} && chmod 755 {POLICY}"
    subprocess.run([*root, "sh", "-c", write], check=False)
    try:
        yield
    finally:
        subprocess.run([*root, "rm", "-f", str(POLICY)], check=False)


def main() -> None:
    """Find it, else install it and find it again. Exit with one line if neither helps."""
    if find() is None:
        install()
    found = find()
    if found is None:
        sys.exit("The tests need redis-server and it could not be installed. Install Redis and try again.")
    print(found)


if __name__ == "__main__":
    main()
