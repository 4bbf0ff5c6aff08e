"""Databases of an earlier version: how they are made, filled by plain SQL, read and upgraded."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import flask_migrate
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from app import create_app
from app.database import db
from app.settings import Settings
from tests.factories import SECRET

Row = Mapping[str, Any]
Snapshot = dict[str, list[Row]]
"""Table → rows as the driver returns them, in a fixed order."""

RENAMED_TABLES = {"0004": {"letter": "outbox_email"}}
"""Tables that a revision renames. Columns that it renames are in the revision itself, as COLUMNS."""


def _as_in_0005(snapshot: Snapshot) -> Snapshot:
    """Receipt ids are texts, versions are new, and the charges of the same order are in a table of their own."""
    return snapshot | {
        "charge": [{**row, "receipt_id": str(UUID(str(row["receipt_id"])))} for row in snapshot["charge"]],
        "orders": [{name: row[name] for name in row if name != "version"} for row in snapshot["orders"]],
        "same_order_charge": snapshot["same_order"],
        "same_order": [],
    }


CHANGED: dict[str, Callable[[Snapshot], Snapshot]] = {"0005": _as_in_0005}
"""What a revision does to the values."""


@dataclass(frozen=True)
class Receipt:
    """A receipt of an old charge: how it reads now if the charge has ended, and how it must read in the end."""

    buyer_id: UUID
    order_id: int
    amount: int
    has_ended: bool
    ends: str
    """The status in the end."""
    personal: tuple[str, ...]
    """Texts on it that only the buyer sees."""
    last4: str | None


@dataclass
class OldData:
    """What an earlier version has stored: table → rows with that version's column names, in the order of inserting."""

    rows: dict[str, list[dict[str, Any]]]
    receipts: dict[UUID, Receipt] = field(default_factory=dict)
    owed: set[UUID] = field(default_factory=set)
    """Receipts whose e-mail has not been sent."""

    def add(self, table: str, **columns: Any) -> int:
        """Add a row. Return its id, which is its number in the table."""
        rows = self.rows[table]
        identity = len(rows) + 1
        rows.append(columns if table == "same_order" else {"id": identity, **columns})
        return identity


@contextmanager
def connected(database_url: str) -> Iterator[Connection]:
    """Yield a transaction on a connection that is closed afterwards, so that the database can be dropped."""
    engine = create_engine(database_url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def upgrade(database_url: str, revision: str = "head") -> None:
    """Do what `flask --app wsgi db upgrade` does, up to this revision."""
    app = create_app(Settings(secret_key=SECRET, database_url=database_url))
    with app.app_context():
        flask_migrate.upgrade(revision=revision)
        db.engine.dispose()


def insert(database_url: str, data: OldData) -> None:
    """Insert everything by plain SQL, without the models, which know only the present names."""
    with connected(database_url) as connection:
        for table, rows in data.rows.items():
            for row in rows:
                names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
                stored = {name: _stored(value, connection) for name, value in row.items()}
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({values})"), stored)
            if connection.dialect.name == "postgresql" and rows and "id" in rows[0]:
                sequence = f"pg_get_serial_sequence('{table}', 'id')"
                connection.execute(text(f"SELECT setval({sequence}, {len(rows)})"))


def read_all(database_url: str) -> Snapshot:
    """Return every row of every table but Alembic's own."""
    with connected(database_url) as connection:
        return {
            table: sorted(
                (dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()), key=str
            )
            for table in inspect(connection).get_table_names()
            if table != "alembic_version"
        }


def renamed(snapshot: Snapshot, since: str) -> Snapshot:
    """Return the snapshot with the names that later revisions have given to its tables and columns."""
    for revision in _later_than(since):
        columns = getattr(revision.module, "COLUMNS", {})
        tables = RENAMED_TABLES.get(revision.revision, {})
        snapshot = {
            tables.get(table, table): [_with_names(row, columns.get(table, {})) for row in rows]
            for table, rows in snapshot.items()
        }
        snapshot = CHANGED.get(revision.revision, lambda same: same)(snapshot)
    return snapshot


def only(snapshot: Snapshot, like: Snapshot) -> Snapshot:
    """Return the tables, columns and rows of the snapshot that `like` has too: later versions add some."""
    ids = {table: {row.get("id") for row in rows} for table, rows in like.items()}
    names = {table: list(rows[0]) if rows else [] for table, rows in like.items()}
    return {
        table: sorted(
            ({name: row[name] for name in names[table]} for row in snapshot[table] if row.get("id") in ids[table]),
            key=str,
        )
        for table in like
        if like[table]
    } | {table: [] for table in like if not like[table] and not snapshot[table]}


def current_revision(database_url: str) -> str:
    """Return the revision that the database says it has."""
    with connected(database_url) as connection:
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def head() -> str:
    """Return the newest revision."""
    return str(_scripts().get_current_head())


def execute(database_url: str, statement: str) -> None:
    """Run one statement and commit it."""
    with connected(database_url) as connection:
        connection.execute(text(statement))


def _with_names(row: Row, names: Mapping[str, str]) -> Row:
    return {names.get(name, name): value for name, value in row.items()}


def _stored(value: Any, connection: Connection) -> Any:
    """Return a value as the program stores it on this engine."""
    if isinstance(value, dict):
        return json.dumps(value)
    if connection.dialect.name == "sqlite":
        if isinstance(value, UUID):
            return value.hex
        if isinstance(value, datetime):
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return str(value) if isinstance(value, UUID) else value


def _scripts() -> ScriptDirectory:
    folder = Path(__file__).resolve().parents[2] / "app" / "migrations"
    config = Config()
    config.set_main_option("script_location", str(folder))
    return ScriptDirectory.from_config(config)


def _later_than(revision: str) -> Sequence[Any]:
    """Return the revisions after this one, oldest first."""
    return list(_scripts().iterate_revisions("head", revision))[::-1]
