"""The tables of the shop: products, orders, charges, refunds, the ledger, and the triggers that guard them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
branch_labels = None
depends_on = None


POSTGRESQL = (
    """
CREATE FUNCTION guard_charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    RAISE EXCEPTION 'a charge is never deleted' USING ERRCODE = 'check_violation';
  END IF;
  IF (NEW.token <> OLD.token) OR (NEW.receipt <> OLD.receipt) OR (NEW.order_id <> OLD.order_id) OR (NEW.amount <> OLD.amount) OR (NEW.currency <> OLD.currency) THEN
    RAISE EXCEPTION 'what was claimed does not change' USING ERRCODE = 'check_violation';
  END IF;
  IF NEW.status <> OLD.status AND NOT (OLD.status = 'processing' AND NEW.status IN ('canceled', 'declined', 'in_doubt', 'requires_action', 'succeeded') OR OLD.status = 'in_doubt' AND NEW.status IN ('canceled', 'declined', 'requires_action', 'succeeded') OR OLD.status = 'requires_action' AND NEW.status IN ('canceled', 'declined', 'succeeded')) THEN
    RAISE EXCEPTION 'no charge goes from %% to %%', OLD.status, NEW.status USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER charge_guard BEFORE UPDATE OR DELETE ON charge FOR EACH ROW EXECUTE FUNCTION guard_charge()
""",
    """
CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER ledger_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()
""",
)

SQLITE = (
    """CREATE TRIGGER charge_refuse_delete BEFORE DELETE ON charge BEGIN SELECT RAISE(ABORT, 'a charge is never deleted'); END""",
    """CREATE TRIGGER charge_refuse_change BEFORE UPDATE ON charge WHEN (NEW.token <> OLD.token) OR (NEW.receipt <> OLD.receipt) OR (NEW.order_id <> OLD.order_id) OR (NEW.amount <> OLD.amount) OR (NEW.currency <> OLD.currency) BEGIN SELECT RAISE(ABORT, 'what was claimed does not change'); END""",
    """CREATE TRIGGER charge_refuse_transition BEFORE UPDATE ON charge WHEN NEW.status <> OLD.status AND NOT (OLD.status = 'processing' AND NEW.status IN ('canceled', 'declined', 'in_doubt', 'requires_action', 'succeeded') OR OLD.status = 'in_doubt' AND NEW.status IN ('canceled', 'declined', 'requires_action', 'succeeded') OR OLD.status = 'requires_action' AND NEW.status IN ('canceled', 'declined', 'succeeded')) BEGIN SELECT RAISE(ABORT, 'no charge goes that way'); END""",
    """CREATE TRIGGER ledger_entry_refuse_update BEFORE UPDATE ON ledger_entry BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    """CREATE TRIGGER ledger_entry_refuse_delete BEFORE DELETE ON ledger_entry BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
)


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", BigId, nullable=False),
        sa.Column("buyer", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=6), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('open', 'placed')", name=op.f("ck_orders_state_known")),
        sa.CheckConstraint("version > 0", name=op.f("ck_orders_version_positive")),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
    )
    op.create_index("ix_orders_buyer_id", "orders", ["buyer", "id"], unique=False)
    op.create_index(
        "uq_orders_one_open_per_buyer",
        "orders",
        ["buyer"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )

    op.create_table(
        "product",
        sa.Column("id", BigId, nullable=False),
        sa.Column("slug", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("description", sa.String(length=2000), nullable=False),
        sa.Column("image", sa.String(length=120), nullable=False),
        sa.Column("price", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("stock", sa.Integer(), nullable=False),
        sa.Column("stocked", sa.Integer(), nullable=False),
        sa.Column("on_sale", sa.Boolean(), nullable=False),
        sa.CheckConstraint("price > 0", name=op.f("ck_product_price_positive")),
        sa.CheckConstraint("stock >= 0", name=op.f("ck_product_stock_not_negative")),
        sa.CheckConstraint("stocked >= stock", name=op.f("ck_product_stock_within_stocked")),
        sa.PrimaryKeyConstraint("id", name="pk_product"),
        sa.UniqueConstraint("slug", name="uq_product_slug"),
    )
    op.create_table(
        "charge",
        sa.Column("id", BigId, nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("receipt", sa.Uuid(), nullable=False),
        sa.Column("order_id", BigId, nullable=False),
        sa.Column("status", sa.String(length=15), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("refunded", sa.BigInteger(), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("last4", sa.String(length=4), nullable=True),
        sa.Column("link", sa.String(length=300), nullable=False),
        sa.Column("arrivals", sa.SmallInteger(), nullable=False),
        sa.Column("rivals", sa.SmallInteger(), nullable=False),
        sa.Column("gateway", sa.String(length=20), nullable=False),
        sa.Column("account", sa.String(length=100), nullable=False),
        sa.Column("reference", sa.String(length=255), nullable=True),
        sa.Column("request", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("action_url", sa.String(length=2000), nullable=True),
        sa.Column("reason", sa.String(length=60), nullable=True),
        sa.Column("note", sa.String(length=200), nullable=True),
        sa.Column("ask_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status IN ('in_doubt', 'processing', 'requires_action')) = (ended_at IS NULL)",
            name=op.f("ck_charge_ended_when_ended"),
        ),
        sa.CheckConstraint(
            "status IN ('canceled', 'declined', 'in_doubt', 'processing', 'requires_action', 'succeeded')",
            name=op.f("ck_charge_status_known"),
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_charge_amount_positive")),
        sa.CheckConstraint("refunded >= 0 AND refunded <= amount", name=op.f("ck_charge_refunded_within_amount")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_charge_order_id"),
        sa.PrimaryKeyConstraint("id", name="pk_charge"),
        sa.UniqueConstraint("receipt", name="uq_charge_receipt"),
        sa.UniqueConstraint("token", name="uq_charge_token"),
    )
    op.create_index(
        "ix_charge_due",
        "charge",
        ["ask_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('in_doubt', 'processing', 'requires_action')"),
        sqlite_where=sa.text("status IN ('in_doubt', 'processing', 'requires_action')"),
    )
    op.create_index("ix_charge_order_id", "charge", ["order_id"], unique=False)
    op.create_index(
        "uq_charge_one_live_per_order",
        "charge",
        ["order_id"],
        unique=True,
        postgresql_where=sa.text("status IN ('in_doubt', 'processing', 'requires_action', 'succeeded')"),
        sqlite_where=sa.text("status IN ('in_doubt', 'processing', 'requires_action', 'succeeded')"),
    )

    op.create_table(
        "order_line",
        sa.Column("id", BigId, nullable=False),
        sa.Column("order_id", BigId, nullable=False),
        sa.Column("product_id", BigId, nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_order_line_quantity_positive")),
        sa.CheckConstraint("unit_price > 0", name=op.f("ck_order_line_unit_price_positive")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name="fk_order_line_order_id"),
        sa.ForeignKeyConstraint(["product_id"], ["product.id"], name="fk_order_line_product_id"),
        sa.PrimaryKeyConstraint("id", name="pk_order_line"),
        sa.UniqueConstraint("order_id", "product_id", name="uq_order_line_order_id_product_id"),
    )
    op.create_table(
        "refund",
        sa.Column("id", BigId, nullable=False),
        sa.Column("charge_id", BigId, nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=15), nullable=False),
        sa.Column("stray", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=60), nullable=True),
        sa.Column("note", sa.String(length=200), nullable=True),
        sa.Column("reference", sa.String(length=255), nullable=True),
        sa.Column("ask_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(status IN ('in_doubt', 'processing')) = (ended_at IS NULL)", name=op.f("ck_refund_ended_when_ended")
        ),
        sa.CheckConstraint(
            "status IN ('declined', 'in_doubt', 'processing', 'succeeded')", name=op.f("ck_refund_status_known")
        ),
        sa.CheckConstraint("amount > 0", name=op.f("ck_refund_amount_positive")),
        sa.ForeignKeyConstraint(["charge_id"], ["charge.id"], name="fk_refund_charge_id"),
        sa.PrimaryKeyConstraint("id", name="pk_refund"),
        sa.UniqueConstraint("key", name="uq_refund_key"),
    )
    op.create_index("ix_refund_charge_id", "refund", ["charge_id"], unique=False)
    op.create_index(
        "ix_refund_due",
        "refund",
        ["ask_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('in_doubt', 'processing')"),
        sqlite_where=sa.text("status IN ('in_doubt', 'processing')"),
    )
    op.create_index(
        "uq_refund_one_stray_per_charge",
        "refund",
        ["charge_id"],
        unique=True,
        postgresql_where=sa.text("stray"),
        sqlite_where=sa.text("stray"),
    )

    op.create_table(
        "same_order",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("charge_id", BigId, nullable=False),
        sa.ForeignKeyConstraint(["charge_id"], ["charge.id"], name="fk_same_order_charge_id"),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_same_order"),
    )
    op.create_table(
        "ledger_entry",
        sa.Column("id", BigId, nullable=False),
        sa.Column("charge_id", BigId, nullable=False),
        sa.Column("refund_id", BigId, nullable=True),
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount <> 0", name=op.f("ck_ledger_entry_amount_not_zero")),
        sa.ForeignKeyConstraint(["charge_id"], ["charge.id"], name="fk_ledger_entry_charge_id"),
        sa.ForeignKeyConstraint(["refund_id"], ["refund.id"], name="fk_ledger_entry_refund_id"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_entry"),
    )
    op.create_index(
        "uq_ledger_entry_one_posting_per_charge",
        "ledger_entry",
        ["charge_id", "account"],
        unique=True,
        postgresql_where=sa.text("refund_id IS NULL"),
        sqlite_where=sa.text("refund_id IS NULL"),
    )
    op.create_index(
        "uq_ledger_entry_one_posting_per_refund",
        "ledger_entry",
        ["refund_id", "account"],
        unique=True,
        postgresql_where=sa.text("refund_id IS NOT NULL"),
        sqlite_where=sa.text("refund_id IS NOT NULL"),
    )
    triggers = POSTGRESQL if op.get_bind().dialect.name == "postgresql" else SQLITE
    for trigger in triggers:
        op.get_bind().exec_driver_sql(trigger)


def downgrade() -> None:
    raise NotImplementedError("charges are never deleted: there is no way back from here")
