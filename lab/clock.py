"""A clock that all processes of one scene share, and that can be moved on instead of waited for."""

import struct
from datetime import UTC, datetime, timedelta
from mmap import mmap
from time import time

from sqlalchemy import Engine, event

DAY = 86_400.0


class Clock:
    """Real time, plus what it was moved on by. Made before the processes fork, seen by all of them."""

    def __init__(self) -> None:
        self._moved = mmap(-1, 8)

    def now(self) -> float:
        """Seconds since 1970, UTC."""
        moved: float = struct.unpack("d", self._moved[:8])[0]
        return time() + moved

    def move(self, seconds: float) -> None:
        """So many seconds pass, for everybody who reads this clock."""
        moved: float = struct.unpack("d", self._moved[:8])[0]
        self._moved[:8] = struct.pack("d", moved + seconds)

    def drive(self, engine: Engine) -> None:
        """SQLite tells the time by this clock from now on: what the shop asks of its database's clock moves too."""

        @event.listens_for(engine, "connect")
        def _connect(connection: object, _record: object) -> None:
            connection.create_function("strftime", -1, self._strftime)  # type: ignore[attr-defined]

    def _strftime(self, form: str, _now: str, *shifts: str) -> str:
        """Just what the shop asks for: strftime('%Y-%m-%d %H:%M:%f', 'now', '5 seconds'), to milliseconds."""
        seconds = sum(float(shift.removesuffix(" seconds")) for shift in shifts)
        moment = datetime.fromtimestamp(self.now(), UTC) + timedelta(seconds=seconds)
        return moment.strftime(form.replace("%f", "%S.%f"))[:-3]
