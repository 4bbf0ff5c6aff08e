"""Find redis-server for the tests, and install it if it is missing.

python -m setup.redis        prints its path
"""

import shutil
import sys
from pathlib import Path

from setup.apt import apt_install, without_services

# Homebrew's folders, which may be missing in PATH.
PLACES = ("/opt/homebrew/bin/redis-server", "/usr/local/bin/redis-server")


def find() -> Path | None:
    """Return the path of redis-server, or None."""
    found = [shutil.which("redis-server"), *PLACES]
    return next((Path(path) for path in found if path and Path(path).is_file()), None)


def install() -> None:
    """Install Debian's package without starting its service, now or at the next boot. The tests start their own."""
    with without_services("redis-server"):
        apt_install("redis-server", "for the tests")


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
