"""Find Chromium for the browser tests, and install it if it is missing.

python -m setup.chromium        prints its path
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setup.apt import apt_install

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> Path | None:
    """Return the path that the variable CHROMIUM names, else the one on PATH, else Playwright's own; or None."""
    if named := os.environ.get("CHROMIUM"):
        return Path(named)
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return Path(found)
    return _installed_by_playwright()


def _installed_by_playwright() -> Path | None:
    """Return the path of the Chromium that `playwright install` puts into the user's cache, or None."""
    code = "from playwright.sync_api import sync_playwright as s; print(s().start().chromium.executable_path)"
    # In another process, because a driver that can't run would end this one as well.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    path = Path(done.stdout.strip() or "none")
    return path if path.is_file() else None


def ensure_driver() -> None:
    """Install libatomic if Playwright's driver does not run. A minimal Debian does not have this library."""
    command = [sys.executable, "-m", "playwright", "--version"]
    if subprocess.run(command, capture_output=True).returncode:
        apt_install("libatomic1", "for Playwright's driver")


def install() -> None:
    """Install Chromium by apt, or by Playwright if there is no apt, as on macOS."""
    if not apt_install("chromium", "for the browser tests (half a minute)"):
        print("Installing Chromium by Playwright for the browser tests ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def main() -> None:
    """Find it, else install it and find it again. Exit with one line if neither helps."""
    ensure_driver()
    if find() is None:
        install()
    found = find()
    if found is None:
        sys.exit(
            "The browser tests need Chromium and it could not be installed. Install it, or set CHROMIUM=/its/path."
        )
    print(found)


if __name__ == "__main__":
    main()
