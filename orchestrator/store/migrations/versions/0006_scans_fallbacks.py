"""What a scan fell back on, in the engine's words"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    words = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("scans", sa.Column("fallbacks", words, server_default="[]", nullable=False))


def downgrade() -> None:
    op.drop_column("scans", "fallbacks")
