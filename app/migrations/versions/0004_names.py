"""Rename columns and a table, so that one thing has one name in the database, the code and the documentation.

This migration needs a stop of all shop and recovery processes, because earlier versions use the earlier names.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = {
    "charge": {
        "token": "key",
        "receipt": "receipt_id",
        "link": "receipt_url",
        "rivals": "other_arrivals",
        "reference": "gateway_reference",
        "request": "gateway_request",
        "asked": "times_asked",
    },
    "refund": {"reference": "gateway_reference", "asked": "times_asked"},
    "orders": {"buyer": "buyer_id"},
    "webhook_event": {"event": "event_id"},
    "letter": {"message": "message_id"},
}
CONSTRAINTS = {
    "charge": {"uq_charge_token": "uq_charge_key", "uq_charge_receipt": "uq_charge_receipt_id"},
    "webhook_event": {"uq_webhook_event_gateway_event": "uq_webhook_event_gateway_event_id"},
    "outbox_email": {
        "fk_letter_charge_id": "fk_outbox_email_charge_id",
        "pk_letter": "pk_outbox_email",
        "uq_letter_charge_id": "uq_outbox_email_charge_id",
    },
}
INDEXES = {"ix_orders_buyer_id": "ix_orders_buyer_id_id", "ix_letter_due": "ix_outbox_email_due"}

LEGAL = """OLD.status = 'processing' AND NEW.status IN ('canceled', 'declined', 'in_doubt', 'requires_action', 'succeeded') OR OLD.status = 'in_doubt' AND NEW.status IN ('canceled', 'declined', 'requires_action', 'succeeded') OR OLD.status = 'requires_action' AND NEW.status IN ('canceled', 'declined', 'succeeded')"""
FIXED = """(NEW.key <> OLD.key) OR (NEW.receipt_id <> OLD.receipt_id) OR (NEW.order_id <> OLD.order_id) OR (NEW.amount <> OLD.amount) OR (NEW.currency <> OLD.currency)"""

POSTGRESQL_GUARD = f"""
CREATE OR REPLACE FUNCTION guard_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'a charge is never deleted' USING ERRCODE = 'check_violation';
  END IF;
  IF {FIXED} THEN
    RAISE EXCEPTION 'the claim of a charge does not change' USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.status <> OLD.status AND NOT ({LEGAL}) THEN
    RAISE EXCEPTION 'a charge does not change from %% to %%', OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
"""

SQLITE_GUARDS = {
    "charge_refuse_change": f"CREATE TRIGGER charge_refuse_change BEFORE UPDATE ON charge WHEN {FIXED} "
    "BEGIN SELECT RAISE(ABORT, 'the claim of a charge does not change'); END",
    "charge_refuse_transition": "CREATE TRIGGER charge_refuse_transition BEFORE UPDATE ON charge "
    f"WHEN NEW.status <> OLD.status AND NOT ({LEGAL}) "
    "BEGIN SELECT RAISE(ABORT, 'a charge does not change that way'); END",
}


def upgrade() -> None:
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    if not is_postgresql:
        for trigger in SQLITE_GUARDS:
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
    for table, columns in COLUMNS.items():
        for before, after in columns.items():
            # SQLite stores the new name as it is written here, and a declared schema quotes only keywords.
            name = '"key"' if after == "key" else after
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME COLUMN {before} TO {name}")
    connection.exec_driver_sql("ALTER TABLE letter RENAME TO outbox_email")
    if is_postgresql:
        _rename_in_postgresql(connection)
    else:
        _rename_in_sqlite(connection)


def _rename_in_postgresql(connection: sa.Connection) -> None:
    for table, constraints in CONSTRAINTS.items():
        for before, after in constraints.items():
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME CONSTRAINT {before} TO {after}")
    for before, after in INDEXES.items():
        connection.exec_driver_sql(f"ALTER INDEX {before} RENAME TO {after}")
    connection.exec_driver_sql("ALTER SEQUENCE letter_id_seq RENAME TO outbox_email_id_seq")
    connection.exec_driver_sql(POSTGRESQL_GUARD)


def _rename_in_sqlite(connection: sa.Connection) -> None:
    """SQLite can't rename a constraint. Names don't change how a table is stored, so its stored text can be edited.

    SQLite documents this procedure for such changes (PRAGMA writable_schema). Rebuilding the tables instead would
    need foreign keys switched off, and drops triggers.
    """
    for before, after in INDEXES.items():
        sql = _stored(connection, before)
        connection.exec_driver_sql(f"DROP INDEX {before}")
        connection.exec_driver_sql(sql.replace(before, after).replace('"outbox_email"', "outbox_email"))
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    for table, constraints in CONSTRAINTS.items():
        sql = _stored(connection, table).replace('"outbox_email"', "outbox_email")
        for before, after in constraints.items():
            sql = sql.replace(before, after)
        connection.exec_driver_sql("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, table))
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
    for sql in SQLITE_GUARDS.values():
        connection.exec_driver_sql(sql)


def _stored(connection: sa.Connection, name: str) -> str:
    return str(connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).scalar_one())


def downgrade() -> None:
    raise NotImplementedError("earlier versions do not know these names; restore a backup made before the upgrade")
