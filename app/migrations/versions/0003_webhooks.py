"""What gateways tell us: every event once."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "webhook_event",
        sa.Column("id", BigId, nullable=False),
        sa.Column("gateway", sa.String(length=20), nullable=False),
        sa.Column("event", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("effect", sa.String(length=10), nullable=False),
        sa.Column("charge_id", BigId, nullable=True),
        sa.Column("note", sa.String(length=200), nullable=True),
        sa.Column("happened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "effect IN ('foreign', 'ignored', 'noted', 'recorded')", name=op.f("ck_webhook_event_effect_known")
        ),
        sa.ForeignKeyConstraint(["charge_id"], ["charge.id"], name="fk_webhook_event_charge_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_event"),
        sa.UniqueConstraint("gateway", "event", name="uq_webhook_event_gateway_event"),
    )
    op.create_index("ix_webhook_event_charge_id", "webhook_event", ["charge_id"], unique=False)


def downgrade() -> None:
    raise NotImplementedError("there is no downgrade: the stored events of gateways would be lost")
