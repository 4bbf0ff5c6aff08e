"""Alembic's way to the database: one history for SQLite and PostgreSQL, each upgrade one transaction."""

import click
from alembic import context
from sqlalchemy import text

from app import revisions, timeouts
from app.database import db, reading
from app.engines import lift_time_outs

LOCK = 7_269_846
"""Any number, as long as it is only ours: two upgrades at once on PostgreSQL go one after the other."""


def run() -> None:
    """Run the migrations that were asked for."""
    with db.engine.connect() as connection:
        context.configure(
            connection=connection, target_metadata=db.metadata, render_as_batch=True, transactional_ddl=True
        )
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                # The time-outs of requests would end a long migration.
                lift_time_outs(connection, "lock_timeout", "statement_timeout")
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            context.run_migrations()
            if connection.dialect.name == "postgresql":
                timeouts.set_for_role(connection)


with reading() as tx:
    revision = revisions.current(tx)
if revisions.is_later(revision):
    click.echo(
        f"A later version of PayOnce has migrated this database to {revision}. Nothing was changed: this version "
        "works with it.",
        err=True,
    )
else:
    run()
