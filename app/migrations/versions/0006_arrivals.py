"""What on-call needs: arrivals of forms, questions to gateways, the last audit, and what recovery has done."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Time = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("charge", sa.Column("request_id", sa.String(36)))
    op.create_table(
        "arrival",
        sa.Column("id", BigId, nullable=False),
        sa.Column("charge_key", sa.Uuid(), nullable=False),
        sa.Column("arrived_at", Time, nullable=False),
        sa.Column("request_id", sa.String(36)),
        sa.Column("browser", sa.String(20), nullable=False),
        sa.Column("network", sa.String(45), nullable=False),
        sa.Column("answer", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_arrival"),
    )
    op.create_index("ix_arrival_charge_key", "arrival", ["charge_key"])
    op.create_table(
        "question",
        sa.Column("id", BigId, nullable=False),
        sa.Column("charge_key", sa.Uuid(), nullable=False),
        sa.Column("refund_key", sa.Uuid()),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("asked_by", sa.String(10), nullable=False),
        sa.Column("asked_at", Time, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("result", sa.String(20), nullable=False),
        sa.Column("provider_request_id", sa.String(100)),
        sa.Column("note", sa.String(200)),
        sa.PrimaryKeyConstraint("id", name="pk_question"),
    )
    op.create_index("ix_question_charge_key", "question", ["charge_key", "id"])
    op.create_table(
        "audit_run",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ended_at", Time, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("broken", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_run"),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_run_only_one")),
    )
    op.create_table(
        "recovery_count",
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("result", sa.String(20), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("counted_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("kind", "result", name="pk_recovery_count"),
    )
