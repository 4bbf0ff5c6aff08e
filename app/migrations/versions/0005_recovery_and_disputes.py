"""Random order ids, sortable receipt ids, snapshots of what was claimed, disputes, and what a person must look at."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True)

CHARGE_LEGAL = """OLD.status = 'processing' AND NEW.status IN ('canceled', 'declined', 'in_doubt', 'requires_action', 'succeeded') OR OLD.status = 'in_doubt' AND NEW.status IN ('canceled', 'declined', 'requires_action', 'succeeded') OR OLD.status = 'requires_action' AND NEW.status IN ('canceled', 'declined', 'succeeded')"""
CHARGE_FIXED = """(NEW.key <> OLD.key) OR (NEW.receipt_id <> OLD.receipt_id) OR (NEW.order_id <> OLD.order_id) OR (NEW.buyer_id <> OLD.buyer_id) OR (NEW.amount <> OLD.amount) OR (NEW.currency <> OLD.currency)"""
REFUND_LEGAL = """OLD.status = 'processing' AND NEW.status IN ('declined', 'failed', 'in_doubt', 'succeeded', 'withdrawn') OR OLD.status = 'in_doubt' AND NEW.status IN ('declined', 'failed', 'succeeded', 'withdrawn') OR OLD.status = 'succeeded' AND NEW.status IN ('failed')"""
REFUND_FIXED = """(NEW.key <> OLD.key) OR (NEW.charge_id <> OLD.charge_id) OR (NEW.amount <> OLD.amount) OR (NEW.stray <> OLD.stray)"""

REFUND_STATES_BEFORE = "'declined', 'in_doubt', 'processing', 'succeeded'"
REFUND_STATES = "'declined', 'failed', 'in_doubt', 'processing', 'succeeded', 'withdrawn'"

LEDGER_KEY = "CONSTRAINT fk_ledger_entry_charge_id FOREIGN KEY(charge_id) REFERENCES charge (id)"

SNAPSHOTS = """
INSERT INTO charge_line (charge_id, position, product_id, name, quantity, unit_price)
SELECT c.id, row_number() OVER (PARTITION BY c.id ORDER BY l.product_id), l.product_id, p.name, l.quantity, l.unit_price
FROM charge c JOIN order_line l ON l.order_id = c.order_id JOIN product p ON p.id = l.product_id
WHERE c.amount = (SELECT sum(o.quantity * o.unit_price) FROM order_line o WHERE o.order_id = c.order_id)
"""
"""What an order holds now is what an earlier charge was for only if the sum is still the same."""


def postgresql_guard(name: str, fixed: str, legal: str) -> str:
    return f"""
CREATE OR REPLACE FUNCTION guard_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'a {name} is never deleted' USING ERRCODE = 'check_violation';
  END IF;
  IF {fixed} THEN
    RAISE EXCEPTION 'the claim of a {name} does not change' USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.status <> OLD.status AND NOT ({legal}) THEN
    RAISE EXCEPTION 'a {name} does not change from %% to %%', OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$
"""


def sqlite_guards(name: str, fixed: str, legal: str) -> tuple[str, ...]:
    return (
        f"CREATE TRIGGER {name}_refuse_delete BEFORE DELETE ON {name} "
        f"BEGIN SELECT RAISE(ABORT, 'a {name} is never deleted'); END",
        f"CREATE TRIGGER {name}_refuse_change BEFORE UPDATE ON {name} WHEN {fixed} "
        f"BEGIN SELECT RAISE(ABORT, 'the claim of a {name} does not change'); END",
        f"CREATE TRIGGER {name}_refuse_transition BEFORE UPDATE ON {name} "
        f"WHEN NEW.status <> OLD.status AND NOT ({legal}) "
        f"BEGIN SELECT RAISE(ABORT, 'a {name} does not change that way'); END",
    )


def upgrade() -> None:
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    _drop_guards(is_postgresql)
    _create_tables()
    _add_columns()
    _fill(connection)
    if is_postgresql:
        _tighten_postgresql()
    else:
        _tighten_sqlite(connection)
    op.create_index("uq_orders_random_id", "orders", ["random_id"], unique=True)
    op.drop_index("ix_outbox_email_due", "outbox_email")
    due = sa.text("sent_at IS NULL AND gave_up_at IS NULL")
    op.create_index("ix_outbox_email_due", "outbox_email", ["send_at"], postgresql_where=due, sqlite_where=due)
    end = sa.text("gave_up_at IS NOT NULL")
    op.create_index("ix_outbox_email_given_up", "outbox_email", ["gave_up_at"], postgresql_where=end, sqlite_where=end)
    _index_ledger()
    _create_guards(is_postgresql)


def _drop_guards(is_postgresql: bool) -> None:
    if is_postgresql:
        op.execute("DROP TRIGGER charge_guard ON charge")
        op.execute("DROP TRIGGER ledger_entry_append_only ON ledger_entry")
        return
    for name in ("charge_refuse_delete", "charge_refuse_change", "charge_refuse_transition"):
        op.execute(f"DROP TRIGGER {name}")
    for verb in ("update", "delete"):
        op.execute(f"DROP TRIGGER ledger_entry_refuse_{verb}")


def _create_tables() -> None:
    op.create_table(
        "charge_line",
        sa.Column("charge_id", BigId, nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("product_id", BigId, nullable=True),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_charge_line_quantity_positive")),
        sa.CheckConstraint("unit_price > 0", name=op.f("ck_charge_line_unit_price_positive")),
        sa.ForeignKeyConstraint(["charge_id"], ["charge.id"], name="fk_charge_line_charge_id"),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name="fk_charge_line_product_id"),
        sa.PrimaryKeyConstraint("charge_id", "position", name="pk_charge_line"),
    )
    op.create_table(
        "dispute",
        sa.Column("id", BigId, nullable=False),
        sa.Column("charge_id", BigId, nullable=False),
        sa.Column("gateway_reference", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=15), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("fee", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=60), nullable=True),
        sa.Column("evidence_due_at", Time, nullable=True),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("ended_at", Time, nullable=True),
        sa.CheckConstraint("(status = 'open') = (ended_at IS NULL)", name=op.f("ck_dispute_ended_when_ended")),
        sa.CheckConstraint("amount > 0 AND fee >= 0", name=op.f("ck_dispute_amount_positive")),
        sa.CheckConstraint("status IN ('lost', 'open', 'won')", name=op.f("ck_dispute_status_known")),
        sa.ForeignKeyConstraint(["charge_id"], ["charge.id"], name="fk_dispute_charge_id"),
        sa.PrimaryKeyConstraint("id", name="pk_dispute"),
        sa.UniqueConstraint("charge_id", "gateway_reference", name="uq_dispute_charge_id_gateway_reference"),
    )
    op.create_table(
        "same_order_charge",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("charge_id", BigId, nullable=False),
        sa.ForeignKeyConstraint(["charge_id"], ["charge.id"], name="fk_same_order_charge_charge_id"),
        sa.PrimaryKeyConstraint("fingerprint", "charge_id", name="pk_same_order_charge"),
    )
    op.create_index("ix_same_order_charge_charge_id", "same_order_charge", ["charge_id"])
    op.execute("INSERT INTO same_order_charge (fingerprint, charge_id) SELECT fingerprint, charge_id FROM same_order")
    op.drop_table("same_order")
    op.create_table(
        "same_order",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_same_order"),
    )


def _add_columns() -> None:
    added: dict[str, dict[str, sa.types.TypeEngine[Any]]] = {
        "orders": {"random_id": sa.Uuid()},
        "charge": {
            "buyer_id": sa.Uuid(),
            "attention": sa.String(200),
            "gateway_message": sa.String(500),
            "gateway_request_id": sa.String(100),
            "asked_at": Time,
        },
        "refund": {
            "attention": sa.String(200),
            "gateway_message": sa.String(500),
            "gateway_request_id": sa.String(100),
            "asked_at": Time,
            "send_until": Time,
        },
        "ledger_entry": {"dispute_id": BigId, "kind": sa.String(20)},
        "outbox_email": {"gave_up_at": Time},
    }
    for table, columns in added.items():
        for name, kind in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True))


def _fill(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        op.execute("ALTER TABLE orders ALTER version TYPE bigint")
        op.execute("UPDATE orders SET random_id = gen_random_uuid(), version = (random() * 4e18)::bigint + 1")
        op.execute('ALTER TABLE charge ALTER receipt_id TYPE varchar(36) COLLATE "C" USING receipt_id::text')
    else:
        op.execute("UPDATE orders SET random_id = lower(hex(randomblob(16))), version = abs(random() / 2) + 1")
        parts = " || '-' || ".join(
            f"substr(receipt_id, {at}, {n})" for at, n in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
        )
        op.execute(f"UPDATE charge SET receipt_id = lower({parts})")
    op.execute("UPDATE charge SET buyer_id = (SELECT buyer_id FROM orders WHERE orders.id = charge.order_id)")
    op.execute("UPDATE ledger_entry SET kind = CASE WHEN refund_id IS NULL THEN 'charge' ELSE 'refund' END")
    op.execute(SNAPSHOTS)
    _fill_refunds(connection.dialect.name == "postgresql")


def _fill_refunds(is_postgresql: bool) -> None:
    """Let open refunds be sent for half a day, and owe each stray payment whose refund was declined a second one."""
    half_a_day = "created_at + interval '12 hours'"
    now, key = "now()", "gen_random_uuid()"
    if not is_postgresql:
        half_a_day = "strftime('%Y-%m-%d %H:%M:%f', created_at, '12 hours') || '000'"
        now, key = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'", "lower(hex(randomblob(16)))"
    op.execute(f"UPDATE refund SET send_until = {half_a_day}")
    op.drop_index("uq_refund_one_stray_per_charge", "refund")
    live = sa.text("stray AND status NOT IN ('declined', 'failed', 'withdrawn')")
    op.create_index(
        "uq_refund_one_stray_per_charge", "refund", ["charge_id"], unique=True,
        postgresql_where=live, sqlite_where=live,
    )  # fmt: skip
    alarm = sa.text("attention IS NOT NULL")
    op.create_index("ix_refund_attention", "refund", ["status"], postgresql_where=alarm, sqlite_where=alarm)
    later = half_a_day.replace("created_at", now if is_postgresql else "'now'")
    op.execute(
        "INSERT INTO refund (charge_id, key, amount, status, stray, attention, ask_at, send_until, times_asked, created_at)"
        f" SELECT charge_id, {key}, amount, 'processing', stray, 'the refund of this stray payment was declined before',"
        f" {now}, {later}, 0, {now} FROM refund WHERE stray AND status = 'declined'"
    )


def _tighten_postgresql() -> None:
    op.execute("ALTER TABLE orders ALTER random_id SET NOT NULL")
    op.execute("ALTER TABLE charge ALTER buyer_id SET NOT NULL")
    op.execute("ALTER TABLE ledger_entry ALTER kind SET NOT NULL")
    op.execute(
        "ALTER TABLE ledger_entry ADD CONSTRAINT fk_ledger_entry_dispute_id "
        "FOREIGN KEY (dispute_id) REFERENCES dispute (id)"
    )
    op.execute("ALTER TABLE refund ALTER send_until SET NOT NULL")
    op.execute("ALTER TABLE refund DROP CONSTRAINT ck_refund_status_known")
    op.execute(f"ALTER TABLE refund ADD CONSTRAINT ck_refund_status_known CHECK (status IN ({REFUND_STATES}))")


def _tighten_sqlite(connection: sa.Connection) -> None:
    """Edit the stored text of the tables, as in 0004: none of this changes how a row is stored."""
    edits = {
        "orders": [("random_id CHAR(32)", "random_id CHAR(32) NOT NULL"), ("version INTEGER", "version BIGINT")],
        "charge": [
            ("receipt_id CHAR(32)", "receipt_id VARCHAR(36)"),
            ("buyer_id CHAR(32)", "buyer_id CHAR(32) NOT NULL"),
        ],
        "refund": [
            (REFUND_STATES_BEFORE, REFUND_STATES),
            ("send_until DATETIME", "send_until DATETIME NOT NULL"),
        ],
        "ledger_entry": [
            ("kind VARCHAR(20)", "kind VARCHAR(20) NOT NULL"),
            (LEDGER_KEY, f"{LEDGER_KEY}, {LEDGER_KEY.replace('charge', 'dispute')}"),
        ],
    }
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    for table, replacements in edits.items():
        sql = str(connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).scalar_one())
        for before, after in replacements:
            if before not in sql:
                raise AssertionError(f"{table}: {before} not in {sql}")
            sql = sql.replace(before, after)
        connection.exec_driver_sql("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, table))
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")


def _index_ledger() -> None:
    for what, condition in {
        "charge": "refund_id IS NULL AND dispute_id IS NULL",
        "refund": "refund_id IS NOT NULL",
        "dispute": "dispute_id IS NOT NULL",
    }.items():
        name = f"uq_ledger_entry_one_posting_per_{what}"
        if what != "dispute":
            op.drop_index(name, "ledger_entry")
        op.create_index(
            name, "ledger_entry", [f"{what}_id", "account", "kind"], unique=True,
            postgresql_where=sa.text(condition), sqlite_where=sa.text(condition),
        )  # fmt: skip


def _create_guards(is_postgresql: bool) -> None:
    connection = op.get_bind()
    guards = (("charge", CHARGE_FIXED, CHARGE_LEGAL), ("refund", REFUND_FIXED, REFUND_LEGAL))
    for name, fixed, legal in guards:
        if is_postgresql:
            connection.exec_driver_sql(postgresql_guard(name, fixed, legal))
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name}_guard BEFORE UPDATE OR DELETE ON {name} "
                f"FOR EACH ROW EXECUTE FUNCTION guard_{name}()"
            )
        else:
            for trigger in sqlite_guards(name, fixed, legal):
                connection.exec_driver_sql(trigger)
    if is_postgresql:
        op.execute(
            "CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER ledger_entry_refuse_{verb.lower()} BEFORE {verb} ON ledger_entry "
            "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        )


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not forgotten: restore a backup made before the upgrade")
