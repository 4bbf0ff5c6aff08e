"""A clock that all processes of one scene share. Attacks move it forward instead of waiting."""

import struct
from datetime import UTC, datetime, timedelta
from mmap import mmap
from time import time

from sqlalchemy import Engine, event

DAY = 86_400.0
"""Seconds."""


class Clock:
    """The real time plus an offset. Create it before the processes fork: the offset is in shared memory."""

    def __init__(self) -> None:
        self._memory = mmap(-1, 8)

    def now(self) -> float:
        """Return seconds since 1970, UTC."""
        return time() + self._offset()

    def advance(self, seconds: float) -> None:
        """Move the clock forward in all processes of the scene."""
        self._memory[:8] = struct.pack("d", self._offset() + seconds)

    def _offset(self) -> float:
        offset: float = struct.unpack("d", self._memory[:8])[0]
        return offset

    def apply_to(self, engine: Engine) -> None:
        """Replace SQLite's `strftime`, so that `from_now()` in the shop's statements uses this clock too."""

        @event.listens_for(engine, "connect")
        def _connect(connection: object, _record: object) -> None:
            connection.create_function("strftime", -1, self._strftime)  # type: ignore[attr-defined]

    def _strftime(self, form: str, _now: str, *shifts: str) -> str:
        """Support the one call that the shop makes: strftime('%Y-%m-%d %H:%M:%f', 'now', '5 seconds')."""
        seconds = sum(float(shift.removesuffix(" seconds")) for shift in shifts)
        moment = datetime.fromtimestamp(self.now(), UTC) + timedelta(seconds=seconds)
        return moment.strftime(form.replace("%f", "%S.%f"))[:-3]  # Milliseconds, as SQLite's %f.
