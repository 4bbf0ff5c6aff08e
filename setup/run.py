"""Serve the shop and its bank. `make run` calls this as soon as .venv is ready.

Sets the environment variables that are not set, migrates the database, seeds it if it is empty, then runs every line
of the Procfile until one of the processes ends or a signal arrives.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from app import instance
from setup.processes import Processes

ROOT = Path(__file__).resolve().parent.parent
MARGIN = 15
"""Seconds added to GATEWAY_DEADLINE, so that gunicorn's own graceful time-out ends first."""


def environment() -> dict[str, str]:
    """Return the environment for all processes: the variables that are set, and defaults for the others."""
    given = {name: value for name, value in os.environ.items() if value}
    defaults = {
        "PORT": "8000",
        "DATABASE_URL": f"sqlite:///{instance.FOLDER}/shop.sqlite",
        "SANDBOX_DATABASE_URL": f"sqlite:///{instance.FOLDER}/bank.sqlite",
        "SANDBOX_BANK_URL": "http://127.0.0.1:8010",
        "PYTHONUNBUFFERED": "1",
    }
    if "SECRET_KEY" not in given:
        defaults["SECRET_KEY"] = instance.kept("secret_key")
    path = f"{ROOT}/.venv/bin{os.pathsep}{given.get('PATH', os.defpath)}"
    return defaults | given | {"PATH": path}


def commands(env: dict[str, str]) -> dict[str, str]:
    """Return the Procfile's commands by name, without the sandbox bank if another gateway takes the money."""
    lines = (line.split(":", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line.strip())
    found = {name.strip(): command.strip() for name, command in lines}
    del found["release"]  # A step before a start, which `prepare` takes here.
    if env.get("PAYMENT_GATEWAY", "sandbox") != "sandbox":
        found.pop("bank", None)
    return found


def refuse_taken_ports(env: dict[str, str], to_serve: dict[str, str]) -> None:
    """Exit with one line if another program already listens on a port that is needed."""
    bank = urlsplit(env["SANDBOX_BANK_URL"])
    wanted = [("PORT", "127.0.0.1", env["PORT"])]
    if "bank" in to_serve:
        wanted.append(("SANDBOX_BANK_URL", bank.hostname or "", str(bank.port or 80)))
    for setting, host, port in wanted:
        try:
            socket.create_server((host, int(port))).close()
        except (OSError, ValueError, OverflowError) as error:
            sys.exit(f"Can't listen on {host}:{port} ({error}). Choose another address with {setting}.")


def prepare(env: dict[str, str]) -> None:
    """Migrate, and seed if the database is empty. If a command fails, it has printed why; exit with its code."""
    for words in (["db", "upgrade"], ["seed"]):
        code = subprocess.call(["flask", "--app", "wsgi", *words], env=env, cwd=ROOT)
        if code:
            sys.exit(code)


def serve(commands: dict[str, str], env: dict[str, str]) -> int:
    """Run until a process ends or a signal arrives. Return the process's exit code (1 instead of 0), or 0."""
    processes = Processes(commands, env, ROOT)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda number, _frame: processes.events.put(number))
    try:
        first = processes.wait()
        if isinstance(first, str):
            print(f"The {first} process has ended. Stopping the others ...", flush=True)
            return processes.running[first].returncode or 1
        print("Stopping. A payment in flight may take a few seconds ...", flush=True)
        return 0
    finally:
        processes.stop(float(env.get("GATEWAY_DEADLINE") or 10) + MARGIN)


def interrupted(signum: int, _frame: FrameType | None) -> None:
    """Exit at once. This handles signals until the processes run."""
    sys.exit(128 + signum)


def main() -> None:
    """Prepare everything and serve. Exit with 0 after a signal, else with 1 or the failed process's code."""
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, interrupted)
    os.umask(0o077)
    env = environment()
    os.environ["PATH"] = env["PATH"]
    to_serve = commands(env)
    refuse_taken_ports(env, to_serve)
    print("Preparing the database ...", flush=True)
    prepare(env)
    print(f"Serving on http://127.0.0.1:{env['PORT']} (Ctrl-C stops) ...", flush=True)
    sys.exit(serve(to_serve, env))


if __name__ == "__main__":
    main()
