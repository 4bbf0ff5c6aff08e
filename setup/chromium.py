"""Find Chromium for the browser tests, and get it where there is none.

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
    """CHROMIUM from the environment, else one on PATH, else Playwright's own."""
    if named := os.environ.get("CHROMIUM"):
        return Path(named)
    if found := next(filter(None, map(shutil.which, NAMES)), None):
        return Path(found)
    return _playwrights_own()


def _playwrights_own() -> Path | None:
    """The one that `playwright install` puts into the user's cache."""
    ask = "from playwright.sync_api import sync_playwright as s; print(s().start().chromium.executable_path)"
    # A process of its own: where the driver can't run at all, it would take this one with it.
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    path = Path(said.stdout.strip() or "none")
    return path if path.is_file() else None


def ensure_driver() -> None:
    """Playwright's driver needs a library that a bare Debian lacks."""
    works = [sys.executable, "-m", "playwright", "--version"]
    if subprocess.run(works, capture_output=True).returncode:
        apt_install("libatomic1", "for Playwright's driver")


def install() -> None:
    """By apt; where there is no apt (macOS), by Playwright."""
    if not apt_install("chromium", "for the browser tests (half a minute)"):
        print("Installing Chromium by Playwright for the browser tests ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False)


def main() -> None:
    """Find, else install and find again; end with one line where neither helps."""
    ensure_driver()
    if find() is None:
        install()
    found = find()
    if found is None:
        sys.exit("The browser tests need Chromium and it could not be installed. CHROMIUM=/path names one.")
    print(found)


if __name__ == "__main__":
    main()
