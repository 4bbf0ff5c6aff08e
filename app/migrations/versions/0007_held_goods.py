"""Goods that unconfirmed payments hold: for how long, whether others need them, and for which network.

Earlier versions can run on this schema. The payments that they begin are not released early.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("charge", sa.Column("network", sa.String(length=16), nullable=True))
    op.add_column("charge", sa.Column("hold_until", sa.DateTime(timezone=True), nullable=True))
    op.add_column("charge", sa.Column("wanted_at", sa.DateTime(timezone=True), nullable=True))
    known = sa.text("network IS NOT NULL")
    op.create_index("ix_charge_network", "charge", ["network"], postgresql_where=known, sqlite_where=known)


def downgrade() -> None:
    raise NotImplementedError("what was recorded is not forgotten: restore a backup made before the upgrade")
