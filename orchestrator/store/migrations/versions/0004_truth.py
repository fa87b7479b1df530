"""What the truth of a real account needs: ids of what rests, what is known of the account, what is not ours"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

OLD_KINDS = "kind IN ('DEPOSIT', 'REALIZED_PNL', 'FEE', 'FUNDING', 'LIQUIDATION_FEE')"
NEW_KINDS = "kind IN ('DEPOSIT', 'REALIZED_PNL', 'FEE', 'FUNDING', 'LIQUIDATION_FEE', 'TRANSFER', 'EXTERNAL')"


def upgrade() -> None:
    for name in ("stop_order_id", "target_order_id", "trailing_order_id"):
        op.add_column("positions", sa.Column(name, sa.String(), nullable=True))
    op.add_column("positions", sa.Column("protected_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_constraint("orders_client_order_id_key", "orders", type_="unique")
    op.create_unique_constraint("orders_client_order_id", "orders", ["user_id", "client_order_id"])
    op.drop_constraint("ledger_kind", "ledger_entries", type_="check")
    op.create_check_constraint("ledger_kind", "ledger_entries", NEW_KINDS)
    op.create_table(
        "account_truths",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("look_back_to", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("wallet", sa.Numeric(28, 8), nullable=False),
        sa.Column("free", sa.Numeric(28, 8), nullable=False),
        sa.Column("position_mode", sa.String(), nullable=False),
        sa.Column("opened", sa.Boolean(), nullable=False),
        sa.Column("difference", sa.Numeric(28, 8), nullable=False),
        sa.Column("differs_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("alarmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id"),
    )
    op.create_table(
        "foreign_holdings",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("quantity", sa.Numeric(28, 12), nullable=False),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "symbol", "name"),
    )


def downgrade() -> None:
    op.drop_table("foreign_holdings")
    op.drop_table("account_truths")
    op.drop_constraint("ledger_kind", "ledger_entries", type_="check")
    op.execute("DELETE FROM ledger_entries WHERE kind IN ('TRANSFER', 'EXTERNAL')")
    op.create_check_constraint("ledger_kind", "ledger_entries", OLD_KINDS)
    op.drop_constraint("orders_client_order_id", "orders", type_="unique")
    op.create_unique_constraint("orders_client_order_id_key", "orders", ["client_order_id"])
    for name in ("protected_at", "trailing_order_id", "target_order_id", "stop_order_id"):
        op.drop_column("positions", name)
