"""Note when a scan's signals have been decided for everyone, so that what a crash left undecided is found"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("scans", sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE scans SET decided_at = as_of")
    op.create_index("scans_undecided", "scans", ["candle_close"], postgresql_where=sa.text("decided_at IS NULL"))


def downgrade() -> None:
    op.drop_index("scans_undecided", "scans")
    op.drop_column("scans", "decided_at")
