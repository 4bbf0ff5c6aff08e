"""Compare the database's revision with the newest one that this version of the program has."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

FOLDER = Path(__file__).resolve().parent / "migrations"


@cache
def known() -> list[str]:
    """Return the revisions of this version, the newest first."""
    return [script.revision for script in ScriptDirectory(FOLDER).walk_revisions()]


def current(connection: Connection) -> str | None:
    """Return the database's revision, or None if it was never migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def is_later(revision: str | None) -> bool:
    """Return whether a later version of the program has migrated the database.

    Our revisions are numbers. This version works with it: migrations first add, and remove only what the version before
    does not use.
    """
    return revision is not None and revision.isdigit() and revision not in known()


def missing(connection: Connection) -> str | None:
    """Return the newest revision if the database does not have it yet, else None."""
    revision = current(connection)
    return None if revision == known()[0] or is_later(revision) else known()[0]
