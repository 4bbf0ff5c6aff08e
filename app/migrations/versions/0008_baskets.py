"""When a basket was last used, so that unused ones can be deleted; the buyer of a charge follows that of its order."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

CHARGE_FIXED = """(NEW.key <> OLD.key) OR (NEW.receipt_id <> OLD.receipt_id) OR (NEW.order_id <> OLD.order_id) OR (NEW.amount <> OLD.amount) OR (NEW.currency <> OLD.currency) OR (NEW.buyer_id <> OLD.buyer_id AND NOT (OLD.ended_at IS NOT NULL AND NEW.buyer_id = (SELECT buyer_id FROM orders WHERE id = NEW.order_id)))"""
CHARGE_LEGAL = """OLD.status = 'processing' AND NEW.status IN ('canceled', 'declined', 'in_doubt', 'requires_action', 'succeeded') OR OLD.status = 'in_doubt' AND NEW.status IN ('canceled', 'declined', 'requires_action', 'succeeded') OR OLD.status = 'requires_action' AND NEW.status IN ('canceled', 'declined', 'succeeded')"""

POSTGRESQL_GUARD = f"""
CREATE OR REPLACE FUNCTION guard_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'a charge is never deleted' USING ERRCODE = 'check_violation';
  END IF;
  IF {CHARGE_FIXED} THEN
    RAISE EXCEPTION 'the claim of a charge does not change' USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.status <> OLD.status AND NOT ({CHARGE_LEGAL}) THEN
    RAISE EXCEPTION 'a charge does not change from %% to %%', OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$
"""

SQLITE_GUARD = (
    f"CREATE TRIGGER charge_refuse_change BEFORE UPDATE ON charge WHEN {CHARGE_FIXED} "
    "BEGIN SELECT RAISE(ABORT, 'the claim of a charge does not change'); END"
)

IN_USE = "UPDATE orders SET in_use_at = {now} WHERE state = 'open' AND NOT EXISTS (SELECT 1 FROM charge WHERE order_id = orders.id)"
"""Nobody knows how old the forms of these baskets are, so they are kept for another month."""


def upgrade() -> None:
    connection = op.get_bind()
    is_postgresql = connection.dialect.name == "postgresql"
    op.add_column("orders", sa.Column("in_use_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(IN_USE.format(now="now()" if is_postgresql else "strftime('%Y-%m-%d %H:%M:%f', 'now') || '000'"))
    used = sa.text("in_use_at IS NOT NULL")
    op.create_index("ix_orders_in_use_at", "orders", ["in_use_at"], postgresql_where=used, sqlite_where=used)
    if is_postgresql:
        connection.exec_driver_sql(POSTGRESQL_GUARD)
        return
    op.execute("DROP TRIGGER charge_refuse_change")
    connection.exec_driver_sql(SQLITE_GUARD)


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not forgotten: restore a backup made before the upgrade")
