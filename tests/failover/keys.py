"""Write down every change of the keys that Patroni's nodes agree by: who leads, and who is a synchronous standby."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

import httpx

PERIOD = 0.05
"""Seconds between two looks."""

KEYS = ("leader", "sync", "history")


@contextmanager
def keys_noted(etcd: str, log: Path) -> Iterator[None]:
    """Append a line to `log` for each change while the block runs."""
    stop = Event()

    def note() -> None:
        before: dict[str, str] = {}
        while not stop.wait(PERIOD):
            with suppress(httpx.TransportError):
                now = {key: _value(etcd, key) for key in KEYS}
                changed = [key for key in KEYS if now[key] != before.get(key)]
                with log.open("a") as file:
                    file.writelines(f"{datetime.now(UTC):%F %T.%f} {key} {now[key]}\n" for key in changed)
                before = now

    thread = Thread(target=note, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)


def _value(etcd: str, key: str) -> str:
    wanted = {"key": base64.b64encode(f"/service/payonce/{key}".encode()).decode()}
    found = httpx.post(f"http://{etcd}/v3/kv/range", json=wanted, timeout=2, trust_env=False).json().get("kvs")
    return base64.b64decode(found[0]["value"]).decode() if found else ""
