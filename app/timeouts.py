"""PostgreSQL's time-outs, without which one lost host can stop all others.

They are set for the role in this database by `db upgrade`. Connection options would not survive pgbouncer, and SET
does not stay with a client in pgbouncer's transaction mode.
"""

from sqlalchemy import text
from sqlalchemy.engine import Connection

MILLISECONDS = {
    "lock_timeout": 2_000,
    "statement_timeout": 10_000,
    "idle_in_transaction_session_timeout": 10_000,
}
"""How long a statement may wait for one lock, and run in all, and how long a transaction may stay open unused."""

ACTUAL = text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)")


def set_for_role(connection: Connection) -> None:
    """Set the time-outs for the present role in the present database. A role may do that for itself.

    New connections have them. This one gets them too, because pgbouncer may lend it to the shop afterwards.
    """
    for name, milliseconds in MILLISECONDS.items():
        connection.execute(text(f"SET {name} = {milliseconds}"))
        connection.execute(
            text(
                f"DO $$ BEGIN EXECUTE format('ALTER ROLE %I IN DATABASE %I SET {name} = {milliseconds}', "
                "current_user, current_database()); END $$"
            )
        )


def missing(connection: Connection) -> list[str]:
    """Return the names of the time-outs that this connection does not have, or that are longer than they may be."""
    if connection.dialect.name != "postgresql":
        return []
    actual = {row.name: int(row.setting) for row in connection.execute(ACTUAL, {"names": list(MILLISECONDS)})}
    return [name for name, most in MILLISECONDS.items() if not 0 < actual[name] <= most]
