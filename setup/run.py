"""Serve the shop with its bank: what `make run` does once .venv is there.

Sets what is not set, migrates, seeds an empty database, then runs every line of the Procfile until one
of them ends or a signal comes.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from setup.processes import Processes

ROOT = Path(__file__).resolve().parent.parent
INSTANCE = ROOT / "instance"
# Beyond gunicorn's graceful time-out, which is beyond GATEWAY_DEADLINE.
MARGIN = 15


def secret_key() -> str:
    """The secret of this checkout, made at the first start: 0600 in a folder that is 0700."""
    INSTANCE.mkdir(mode=0o700, exist_ok=True)
    path = INSTANCE / "secret_key"
    if not path.exists():
        # Written whole, then linked: of two first starts at once both end up with the same secret.
        with tempfile.NamedTemporaryFile("w", dir=INSTANCE) as new:
            new.write(secrets.token_hex(32))
            new.flush()
            with contextlib.suppress(FileExistsError):
                os.link(new.name, path)
    return path.read_text().strip()


def environment() -> dict[str, str]:
    """The environment of everything started here: what is given counts, the rest is filled in."""
    given = {name: value for name, value in os.environ.items() if value}
    defaults = {
        "PORT": "8000",
        "DATABASE_URL": f"sqlite:///{INSTANCE}/shop.sqlite",
        "SANDBOX_DATABASE_URL": f"sqlite:///{INSTANCE}/bank.sqlite",
        "SANDBOX_BANK_URL": "http://127.0.0.1:8010",
        "PYTHONUNBUFFERED": "1",
    }
    if "SECRET_KEY" not in given:
        defaults["SECRET_KEY"] = secret_key()
    path = f"{ROOT}/.venv/bin{os.pathsep}{given.get('PATH', os.defpath)}"
    return defaults | given | {"PATH": path}


def commands(env: dict[str, str]) -> dict[str, str]:
    """The Procfile's lines by name; no sandbox bank where another gateway takes the money."""
    lines = (line.split(":", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line.strip())
    found = {name.strip(): command.strip() for name, command in lines}
    if env.get("PAYMENT_GATEWAY", "sandbox") != "sandbox":
        found.pop("bank", None)
    return found


def refuse_taken_ports(env: dict[str, str], names: dict[str, str]) -> None:
    """End with one line where something else listens already."""
    bank = urlsplit(env["SANDBOX_BANK_URL"])
    wanted = [("PORT", "127.0.0.1", env["PORT"])]
    if "bank" in names:
        wanted.append(("SANDBOX_BANK_URL", bank.hostname or "", str(bank.port or 80)))
    for setting, host, port in wanted:
        try:
            socket.create_server((host, int(port))).close()
        except (OSError, ValueError, OverflowError) as error:
            sys.exit(f"Can't listen on {host}:{port} ({error}). Choose another by {setting}.")


def prepare(env: dict[str, str]) -> None:
    """Migrate, and seed if the database is empty; what went wrong is said by the command itself."""
    for words in (["db", "upgrade"], ["seed"]):
        done = subprocess.run(["flask", "--app", "wsgi", *words], env=env, cwd=ROOT)
        if done.returncode:
            sys.exit(done.returncode)


def serve(commands: dict[str, str], env: dict[str, str]) -> int:
    """Run until the first of them ends (its exit code, never 0) or a signal comes (0)."""
    processes = Processes(commands, env, ROOT)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda number, _frame: processes.events.put(number))
    try:
        first = processes.wait()
        if isinstance(first, str):
            print(f"The {first} process has ended; stopping the others.", flush=True)
            return processes.running[first].returncode or 1
        print("Stopping; a payment in flight may take a few seconds ...", flush=True)
        return 0
    finally:
        processes.stop(float(env.get("GATEWAY_DEADLINE") or 10) + MARGIN)


def interrupted(signum: int, _frame: FrameType | None) -> None:
    """While setting up: end at once, and what was started with it."""
    sys.exit(128 + signum)


def main() -> None:
    """From nothing to a shop that answers."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, interrupted)
    os.umask(0o077)
    env = environment()
    os.environ["PATH"] = env["PATH"]
    names = commands(env)
    refuse_taken_ports(env, names)
    print("Preparing the database ...", flush=True)
    prepare(env)
    print(f"Serving on http://127.0.0.1:{env['PORT']} (Ctrl-C stops) ...", flush=True)
    sys.exit(serve(names, env))


if __name__ == "__main__":
    main()
