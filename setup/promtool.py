"""Find promtool for the tests, and install it if it is missing.

python -m setup.promtool        prints its path
"""

import shutil
import sys
from pathlib import Path

from setup.apt import apt_install, without_services

PACKAGE = "prometheus"
"""Debian's package that holds it."""

# Homebrew's folders, which may be missing in PATH.
PLACES = ("/opt/homebrew/bin/promtool", "/usr/local/bin/promtool")


def find() -> Path | None:
    """Return the path of promtool, or None."""
    found = [shutil.which("promtool"), *PLACES]
    return next((Path(path) for path in found if path and Path(path).is_file()), None)


def main() -> None:
    """Find it, else install it and find it again. Exit with one line if neither helps."""
    if find() is None:
        with without_services(PACKAGE):
            apt_install(PACKAGE, "for the tests")
    found = find()
    if found is None:
        sys.exit("The tests need promtool and it could not be installed. Install Prometheus and try again.")
    print(found)


if __name__ == "__main__":
    main()
