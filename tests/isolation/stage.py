"""A stage on which actors run the program's own code against PostgreSQL, one statement at a time.

Each actor is a thread with an app context and connections of its own. It stops before every statement, every COMMIT,
every ROLLBACK and every question to the bank, and continues when the schedule says so. `pg_blocking_pids` says which
actors wait for a lock of another one; nothing depends on a fixed time. Only the bank is replaced (see `bank`).

A schedule may also end a wait, by `pg_cancel_backend` or by a short `lock_timeout` that the waiting actor is given
before its statement. Until it has stopped again, no other actor can continue, so it never gets its lock first.

`book.post` inserts two rows by one `executemany`, which counts as one statement.
"""

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread, get_ident
from time import monotonic, sleep
from typing import Any

import psycopg2
from flask import Flask
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import event
from sqlalchemy.engine import Connection, ExceptionContext, make_url

from app.database import db
from tests.isolation.actors import CANCEL, TIME_OUT, Actor, Cut, EndedWait, State, Step

POLL = 0.001
"""Seconds without news after which PostgreSQL is asked who is blocked."""

PATIENCE = 8.0
"""Seconds after which an actor that neither stops nor is blocked means that the test is broken."""

DEADLOCK = "40P01"
BLOCKED = "SELECT pid FROM unnest(%(pids)s::int[]) AS pid WHERE pg_blocking_pids(pid) && %(pids)s::int[]"
"""Actors that wait for a lock of another actor. Waiting for anybody else, such as a vacuum, ends by itself."""

SHORT_WAIT = "SET LOCAL lock_timeout = '5ms'"

VACUUM_EVERY = 50
"""Schedules after which the rows that they left behind are vacuumed."""


class Stage:
    """The threads, the gate before each statement, and two connections for watching and changing the database."""

    def __init__(self, app: Flask, url: str) -> None:
        self.app, self.deadlocks = app, 0
        self.cut_at: str | None = None
        self.diverged = False
        self._actors: dict[int, Actor] = {}
        self._saved: dict[str, str] = {}
        self._restored = 0
        self._news: SimpleQueue[Actor] = SimpleQueue()
        self._dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._watcher, self._changer = self._connect(), self._connect()
        with app.app_context():
            self.engine = db.engine
        event.listen(self.engine, "before_cursor_execute", self._before_statement)
        event.listen(self.engine, "commit", self._before_commit)
        event.listen(self.engine, "rollback", self._before_rollback)
        event.listen(self.engine, "handle_error", self._note_deadlock)

    def _connect(self) -> Any:
        connection = psycopg2.connect(self._dsn)
        connection.autocommit = True
        return connection

    def close(self) -> None:
        """Close every connection, so that the database can be dropped."""
        self.engine.dispose()
        self._watcher.close()
        self._changer.close()

    # What the database holds

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run SQL outside of every transaction, without the program."""
        with self._changer.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def save(self, name: str) -> None:
        """Keep every row under this name, so that `restore` can bring it back."""
        found = self.sql(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        )
        tables = [table for (table,) in found]
        copies = "".join(f"CREATE TABLE {name}.{table} AS TABLE public.{table};" for table in tables)
        self.sql(f"DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}; {copies}")
        sequences = self.sql("SELECT sequencename, coalesce(last_value, 0) FROM pg_sequences")
        reset = "".join(f"SELECT setval('{sequence}', {last + 1}, false);" for sequence, last in sequences)
        refill = "".join(f"DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {name}.{table};" for table in tables)
        # As a replica, so that no trigger refuses it. For a few rows, DELETE is faster than TRUNCATE.
        self._saved[name] = f"SET session_replication_role = replica; {refill} {reset} RESET session_replication_role"

    def restore(self, name: str) -> None:
        """Bring back the rows and sequences that `save` kept."""
        self.sql(self._saved[name])
        self._restored += 1
        if self._restored % VACUUM_EVERY == 0:
            self.sql("VACUUM")

    # One schedule

    def run(
        self, calls: Sequence[Callable[[], Any]], choices: Sequence[int], cut: Cut | None = None, *, waits: bool = False
    ) -> list[Step]:
        """Run the calls, one actor each: first by `choices`, then each as long as it can continue. Return the steps.

        With `waits`, the ends of waits are choices too. The results are in `results`.
        """
        self.deadlocks, self.cut_at, self.diverged = 0, None, False
        self.ended_wait: EndedWait | None = None
        self._waits = waits
        actors = [Actor(number, call) for number, call in enumerate(calls)]
        try:
            return self._play(actors, choices, cut)
        except BaseException:
            self._abandon(actors)
            raise

    def _play(self, actors: list[Actor], choices: Sequence[int], cut: Cut | None) -> list[Step]:
        for actor in actors:  # One after the other, each to its first statement, for which no lock is needed.
            Thread(target=self._act, args=(actor,), name=f"actor {actor.number}", daemon=True).start()
            self._settle([actor])
        steps: list[Step] = []
        while runnable := tuple(actor.number for actor in actors if actor.state is State.PAUSED):
            before = steps[-1].taken % CANCEL if steps else None
            ends = self._ends_of_waits(actors, before)
            chosen = choices[len(steps)] if len(steps) < len(choices) else before if before in runnable else runnable[0]
            if chosen not in runnable + ends:  # If one step releases two actors, PostgreSQL chooses.
                self.diverged, choices = True, choices[: len(steps)]
                chosen = before if before in runnable else runnable[0]
            actor = actors[chosen % CANCEL]
            steps.append(Step(runnable + ends, chosen, before, actor.next_step))
            if chosen >= CANCEL:
                self._cancel(actors, actor)
                continue
            if choices[len(steps) : len(steps) + 1] == [chosen + TIME_OUT]:
                self._note_end(actor, TIME_OUT)
                steps.append(Step((chosen + TIME_OUT,), chosen + TIME_OUT, chosen, f"{actor.next_step} times out"))
            self._take(actors, actor, cut)
        self.results = [actor.result for actor in actors]
        return steps

    def _ends_of_waits(self, actors: list[Actor], before: int | None) -> tuple[int, ...]:
        """Return the choices that end a wait. A time-out is set before the statement and must come right after it."""
        blocked = [actor.number for actor in actors if self._waits and actor.state is State.BLOCKED]
        return tuple(number + CANCEL for number in blocked) + ((before + TIME_OUT,) if before in blocked else ())

    def _cancel(self, actors: list[Actor], actor: Actor) -> None:
        self._note_end(actor, CANCEL)
        actor.state = State.RUNNING
        self.sql("SELECT pg_cancel_backend(%s)", actor.pid)
        self._settle(actors)

    def _note_end(self, actor: Actor, by: int) -> None:
        actor.wait_ends_by = by
        self.ended_wait = EndedWait(actor.number, actor.next_step, actor.commit_lost, actor.has_asked)

    def _abandon(self, actors: list[Actor]) -> None:
        """Break the actors' connections and let their threads end, so that the next exploration can begin."""
        self.sql("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [actor.pid for actor in actors])
        for actor in actors:
            actor.go.release(1000)

    def _take(self, actors: list[Actor], actor: Actor, cut: Cut | None) -> None:
        if actor.next_step == "COMMIT" or actor.pid == 0:
            actor.commit_lost = False
        actor.has_asked |= actor.pid == 0
        if cut and cut.actor == actor.number:
            if cut.step == actor.taken:
                self._cut(actor, after=cut.after)
            elif cut.lasting and cut.step < actor.taken:
                self._cut(actor, after=False)
        actor.taken += 1
        for each in actors:
            if each.state is State.BLOCKED:
                each.state = State.RUNNING  # Perhaps this step releases it.
        actor.state = State.RUNNING
        actor.go.release()
        self._settle(actors)

    def _cut(self, actor: Actor, *, after: bool) -> None:
        if actor.pid == 0 or (after and actor.next_step != "COMMIT"):
            return
        self.cut_at, actor.commit_lost = self.cut_at or actor.next_step, True
        if after:
            actor.lose_commit = True
        else:
            self.sql("SELECT pg_terminate_backend(%s)", actor.pid)
            while self.sql("SELECT FROM pg_stat_activity WHERE pid = %s", actor.pid):
                sleep(POLL)  # It leaves this view after it has released its locks.

    def _settle(self, actors: list[Actor]) -> None:
        """Wait until every actor is paused, has ended or is blocked by another one."""
        give_up = monotonic() + PATIENCE
        while running := [actor for actor in actors if actor.state in (State.RUNNING, State.BLOCKED)]:
            try:
                self._note_news(self._news.get(timeout=POLL))
                continue
            except Empty:
                blocked = self._blocked([actor.pid for actor in actors if actor.pid])
            if self._news.empty():
                for actor in running:
                    waits = actor.pid in blocked and not actor.wait_ends_by
                    actor.state = State.BLOCKED if waits else State.RUNNING
                is_running = any(actor.state is State.RUNNING for actor in running)
                if not is_running and any(actor.state is State.PAUSED for actor in actors):
                    return  # Otherwise it is a deadlock, which PostgreSQL is about to end.
            if monotonic() > give_up:
                raise RuntimeError(f"no progress: {[(each.number, each.state, each.next_step) for each in actors]}")

    def _note_news(self, actor: Actor) -> None:
        actor.state, actor.wait_ends_by = State.ENDED if actor.next_step == "" else State.PAUSED, 0

    def _blocked(self, pids: list[int]) -> set[int]:
        with self._watcher.cursor() as cursor:
            cursor.execute(BLOCKED, {"pids": pids})
            return {pid for (pid,) in cursor.fetchall()}

    # In the actors' threads

    def _act(self, actor: Actor) -> None:
        self._actors[get_ident()] = actor
        try:
            with self.app.app_context():
                actor.result = actor.call()
        except Exception as error:
            actor.result = error
        finally:
            del self._actors[get_ident()]
            actor.next_step, actor.pid = "", 0
            self._news.put(actor)

    def before_question(self, what: str) -> None:
        """Stop before a question to the bank. No connection is held."""
        if actor := self._actors.get(get_ident()):
            actor.pid, actor.next_step = 0, what
            self._news.put(actor)
            actor.go.acquire()

    def _gate(self, connection: Connection, what: str) -> None:
        actor = self._actors.get(get_ident())
        if actor is None:
            return
        actor.driver = connection.connection.dbapi_connection
        actor.pid, actor.next_step = actor.driver.info.backend_pid, what
        self._news.put(actor)
        actor.go.acquire()
        if actor.wait_ends_by == TIME_OUT:
            with actor.driver.cursor() as cursor:
                cursor.execute(SHORT_WAIT)
        if actor.lose_commit:
            actor.lose_commit = False
            actor.driver.commit()
            actor.driver.close()  # SQLAlchemy's COMMIT now fails: that of the server has happened.

    def _before_statement(self, connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        self._gate(connection, _short(statement))

    def _before_commit(self, connection: Connection) -> None:
        self._gate(connection, "COMMIT")

    def _before_rollback(self, connection: Connection) -> None:
        driver: Any = None if connection.invalidated else connection.connection.dbapi_connection
        if driver and not driver.closed and driver.info.transaction_status != TRANSACTION_STATUS_IDLE:
            self._gate(connection, "ROLLBACK")

    def _note_deadlock(self, context: ExceptionContext) -> None:
        self.deadlocks += getattr(context.original_exception, "pgcode", None) == DEADLOCK


def _short(statement: str) -> str:
    """Return the first words and the table of a statement, for reports."""
    words = statement.split()
    if words[0] == "SELECT":
        words = ["SELECT", words[words.index("FROM") + 1] if "FROM" in words else words[1]]
        return " ".join(words) + (" FOR UPDATE" if "FOR UPDATE" in statement else "")
    return " ".join(words[: 2 if words[0] == "UPDATE" else 3])
