"""Create .venv and install the pinned, hashed requirements into it. Runs on the system Python without any package.

    python3 -m setup.venv base|dev

Does nothing if .venv is already complete. A lock lets several of these start at the same time.
"""

import fcntl
import hashlib
import importlib.util
import signal
import subprocess
import sys
from pathlib import Path

from setup.apt import apt_install

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def say(line: str) -> None:
    """Print one line to stderr, because stdout belongs to the program that is started next."""
    print(line, file=sys.stderr, flush=True)


def fingerprint(name: str) -> str:
    """Return what the file .venv/<name> must hold: a hash of the pins, the Python and the path (scripts contain it)."""
    pins = (ROOT / "requirements" / f"{name}.txt").read_bytes()
    return hashlib.sha256(pins + f"{sys.version}{VENV}".encode()).hexdigest()


def is_ready(name: str) -> bool:
    """Return whether the list `name` is installed, by itself or as a part of dev.txt."""
    names = {name, "dev"}
    return any((VENV / each).is_file() and (VENV / each).read_text() == fingerprint(each) for each in names)


def ensure_venv_module() -> None:
    """Install ensurepip if it is missing, as on Debian. Exit with one line if that is not possible."""
    if importlib.util.find_spec("ensurepip"):
        return
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if not apt_install(package, "to create .venv"):
        sys.exit(f"This Python can't create a virtual environment. Install {package} and try again.")


def make(name: str) -> None:
    """Create .venv again if another Python made it or it has been moved, then install the list `name`."""
    python = VENV / "bin" / "python"
    marker = VENV / "python"
    if not (marker.is_file() and marker.read_text() == f"{sys.version}{VENV}" and python.exists()):
        ensure_venv_module()
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        marker.write_text(f"{sys.version}{VENV}")
    pins = ROOT / "requirements" / f"{name}.txt"
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "--progress-bar=off", "--require-hashes", "-r", str(pins)], check=True)
    (VENV / name).write_text(fingerprint(name))


def main() -> None:
    """Install the list that the command line names, unless it is installed already."""
    # SIGTERM raises SystemExit, so that a running pip ends together with this program.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    name = sys.argv[1]
    if is_ready(name):
        return
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(name):
            return
        say(f"Setting up .venv from requirements/{name}.txt (the first time takes about a minute) ...")
        try:
            make(name)
        except subprocess.CalledProcessError as error:
            sys.exit(f".venv could not be set up (exit code {error.returncode}); see the messages above.")


if __name__ == "__main__":
    main()
