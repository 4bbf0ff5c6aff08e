"""Make .venv and put the pinned, hashed requirements into it; runs on the bare system Python.

    python3 -m setup.venv base|dev

Does nothing when .venv holds just that already. A lock lets several start at once.
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
    """One line on stderr, so that stdout stays the program's own."""
    print(line, file=sys.stderr, flush=True)


def fingerprint(name: str) -> str:
    """What .venv/<name> must say: the pins, the Python and the place (scripts in a venv know their path)."""
    pins = (ROOT / "requirements" / f"{name}.txt").read_bytes()
    return hashlib.sha256(pins + f"{sys.version}{VENV}".encode()).hexdigest()


def is_ready(name: str) -> bool:
    """Whether .venv holds this list; dev.txt holds base.txt too."""
    names = {name, "dev"}
    return any((VENV / n).is_file() and (VENV / n).read_text() == fingerprint(n) for n in names)


def ensure_venv_module() -> None:
    """Debian ships Python without ensurepip; get it, or end with one clear line."""
    if importlib.util.find_spec("ensurepip"):
        return
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if not apt_install(package, "to make .venv"):
        sys.exit(f"This Python can't make a virtual environment. Install {package} and try again.")


def make(name: str) -> None:
    """Make .venv anew where it isn't this Python's, then install with hashes."""
    python = VENV / "bin" / "python"
    mark = VENV / "python"
    if not (mark.is_file() and mark.read_text() == f"{sys.version}{VENV}" and python.exists()):
        ensure_venv_module()
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        mark.write_text(f"{sys.version}{VENV}")
    pins = ROOT / "requirements" / f"{name}.txt"
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "--progress-bar=off", "--require-hashes", "-r", str(pins)], check=True)
    (VENV / name).write_text(fingerprint(name))


def main() -> None:
    """Under the lock: look, and only then work."""
    # As an exception, so that a pip that runs is ended with this program.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    name = sys.argv[1]
    if is_ready(name):
        return
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready(name):
            return
        say(f"Setting up .venv from requirements/{name}.txt (a minute at the first time) ...")
        try:
            make(name)
        except subprocess.CalledProcessError as error:
            sys.exit(f".venv could not be set up (exit code {error.returncode}); what is above says why.")


if __name__ == "__main__":
    main()
