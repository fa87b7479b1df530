"""Lay out users, signals, orders, positions and the ledger"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "scans",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("candle_close", sa.DateTime(timezone=True), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.Column("universe", sa.Integer(), nullable=False),
        sa.Column("screened", sa.Integer(), nullable=False),
        sa.Column("candidates", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("signals", sa.Integer(), nullable=False),
        sa.Column("rejections", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("timings_ms", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("wall_ms", sa.Double(), nullable=False),
        sa.Column("analyst", sa.String(), nullable=False),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_scans_as_of"), "scans", ["as_of"], unique=False)
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("password_hash", sa.String(), nullable=False),
        sa.Column("role", sa.String(), server_default="USER", nullable=False),
        sa.Column("mode", sa.String(), server_default="PAPER", nullable=False),
        sa.Column("paper_balance", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("real_balance_cache", sa.Numeric(precision=28, scale=8), nullable=True),
        sa.Column("real_balance_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fixed_order_size", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("leverage", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("auto_trade_enabled", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("max_daily_loss", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("max_positions", sa.Integer(), nullable=False),
        sa.Column("max_exposure", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("settings_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('PAPER', 'REAL')", name="users_mode"),
        sa.CheckConstraint("role IN ('USER', 'ADMIN')", name="users_role"),
        sa.CheckConstraint("fixed_order_size > 0", name="users_fixed_order_size"),
        sa.CheckConstraint("leverage >= 1", name="users_leverage"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("username"),
    )
    op.create_table(
        "logins",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_logins_user_id"), "logins", ["user_id"], unique=False)
    op.create_table(
        "panic_receipts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("results", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("open_positions", sa.Integer(), nullable=True),
        sa.Column("open_orders", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_panic_receipts_user_id"), "panic_receipts", ["user_id"], unique=False)
    op.create_table(
        "settings_history",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("settings_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_settings_history_user_id"), "settings_history", ["user_id"], unique=False)
    op.create_table(
        "signals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("scan_id", sa.Uuid(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("confidence", sa.Integer(), nullable=False),
        sa.Column("signal_price", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("stop_loss", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("take_profit", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("reward_risk", sa.Double(), nullable=False),
        sa.Column("reasoning", sa.String(), nullable=False),
        sa.Column("analyst", sa.String(), nullable=False),
        sa.Column("model", sa.String(), server_default="", nullable=False),
        sa.Column("features", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("whale", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("instrument", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("candle_close", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("outcome_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("reviewed_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("outcome IN ('TARGET', 'STOP', 'NEITHER')", name="signals_outcome"),
        sa.CheckConstraint("side IN ('LONG', 'SHORT')", name="signals_side"),
        sa.ForeignKeyConstraint(
            ["scan_id"],
            ["scans.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("symbol", "candle_close", name="signals_one_a_candle"),
    )
    op.create_index(op.f("ix_signals_created_at"), "signals", ["created_at"], unique=False)
    op.create_index(op.f("ix_signals_scan_id"), "signals", ["scan_id"], unique=False)
    op.create_index("signals_unreviewed", "signals", ["created_at"], unique=False, postgresql_where=sa.text("outcome IS NULL"))
    op.create_table(
        "positions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("signal_id", sa.Uuid(), nullable=True),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("size", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("opened_size", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("entry_price", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("exit_price", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("stop_loss", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("take_profit", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("trailing_ratio", sa.Numeric(precision=12, scale=8), nullable=True),
        sa.Column("trailing_best", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("leverage", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("margin", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("isolated_margin", sa.Numeric(precision=28, scale=8), server_default="0", nullable=False),
        sa.Column("maintenance_ratio", sa.Numeric(precision=12, scale=8), nullable=False),
        sa.Column("maintenance_amount", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("liquidation_fee_ratio", sa.Numeric(precision=12, scale=8), nullable=False),
        sa.Column("liquidation_price", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("tick_size", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("step_size", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("realized_pnl", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("fees", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("funding", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("pnl", sa.Numeric(precision=28, scale=8), nullable=True),
        sa.Column("close_reason", sa.String(), nullable=True),
        sa.Column("judged_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("funded_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("unprotected_seconds", sa.Double(), nullable=True),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.CheckConstraint("(status = 'CLOSED_WIN') = (closed_at IS NOT NULL AND pnl > 0)", name="positions_win_iff_profit"),
        sa.CheckConstraint("side IN ('LONG', 'SHORT')", name="positions_side"),
        sa.CheckConstraint("status IN ('OPEN', 'CLOSING', 'CLOSED_WIN', 'CLOSED_LOSS')", name="positions_status"),
        sa.ForeignKeyConstraint(
            ["signal_id"],
            ["signals.id"],
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_positions_signal_id"), "positions", ["signal_id"], unique=False)
    op.create_index("positions_of_user", "positions", ["user_id", "opened_at"], unique=False)
    op.create_index(
        "positions_one_live",
        "positions",
        ["user_id", "symbol", "mode"],
        unique=True,
        postgresql_where=sa.text("status IN ('OPEN', 'CLOSING')"),
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("signal_id", sa.Uuid(), nullable=True),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["signal_id"],
            ["signals.id"],
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "refusals_once",
        "refusals",
        ["user_id", "signal_id"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("signal_id IS NOT NULL"),
    )
    op.create_index(op.f("ix_refusals_at"), "refusals", ["at"], unique=False)
    op.create_index(op.f("ix_refusals_signal_id"), "refusals", ["signal_id"], unique=False)
    op.create_table(
        "funding_payments",
        sa.Column("position_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("rate", sa.Numeric(precision=18, scale=12), nullable=False),
        sa.Column("mark_price", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("quantity", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("amount", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.id"],
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("position_id", "at"),
    )
    op.create_index(op.f("ix_funding_payments_user_id"), "funding_payments", ["user_id"], unique=False)
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("amount", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("balance_after", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("position_id", sa.Uuid(), nullable=True),
        sa.CheckConstraint("kind IN ('DEPOSIT', 'REALIZED_PNL', 'FEE', 'FUNDING', 'LIQUIDATION_FEE')", name="ledger_kind"),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.id"],
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id", "mode", "source", name="ledger_once"),
    )
    op.create_index(op.f("ix_ledger_entries_position_id"), "ledger_entries", ["position_id"], unique=False)
    op.create_index("ledger_of_user", "ledger_entries", ["user_id", "mode", "id"], unique=False)
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_order_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("signal_id", sa.Uuid(), nullable=True),
        sa.Column("position_id", sa.Uuid(), nullable=True),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("margin", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("notional", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("leverage", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("quantity", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("signal_price", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("stop_loss", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("take_profit", sa.Numeric(precision=28, scale=12), nullable=True),
        sa.Column("close_reason", sa.String(), nullable=True),
        sa.Column("request", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("detail", sa.String(), nullable=True),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("carried_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("signal_to_fill_ms", sa.Double(), nullable=True),
        sa.CheckConstraint("purpose IN ('ENTRY', 'CLOSE')", name="orders_purpose"),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.id"],
        ),
        sa.ForeignKeyConstraint(
            ["signal_id"],
            ["signals.id"],
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("client_order_id"),
    )
    op.create_index(op.f("ix_orders_position_id"), "orders", ["position_id"], unique=False)
    op.create_index(op.f("ix_orders_signal_id"), "orders", ["signal_id"], unique=False)
    op.create_index("orders_of_user", "orders", ["user_id", "created_at"], unique=False)
    op.create_index(
        "orders_unsettled",
        "orders",
        ["status"],
        unique=False,
        postgresql_where=sa.text("status IN ('AWAITING_APPROVAL', 'CLAIMED', 'SENT', 'UNKNOWN')"),
    )
    op.create_table(
        "claims",
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("symbol", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("margin", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("notional", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.id"],
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "symbol", "mode"),
    )
    op.create_table(
        "fills",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("position_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("trade_id", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("opens", sa.Boolean(), nullable=False),
        sa.Column("price", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("quantity", sa.Numeric(precision=28, scale=12), nullable=False),
        sa.Column("fee", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("realized_pnl", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("liquidation_fee", sa.Numeric(precision=28, scale=8), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trace_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"],
            ["orders.id"],
        ),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["positions.id"],
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("order_id", "trade_id", name="fills_once"),
    )
    op.create_index(op.f("ix_fills_position_id"), "fills", ["position_id"], unique=False)
    op.create_index(op.f("ix_fills_user_id"), "fills", ["user_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_fills_user_id"), table_name="fills")
    op.drop_index(op.f("ix_fills_position_id"), table_name="fills")
    op.drop_table("fills")
    op.drop_table("claims")
    op.drop_index(
        "orders_unsettled",
        table_name="orders",
        postgresql_where=sa.text("status IN ('AWAITING_APPROVAL', 'CLAIMED', 'SENT', 'UNKNOWN')"),
    )
    op.drop_index("orders_of_user", table_name="orders")
    op.drop_index(op.f("ix_orders_signal_id"), table_name="orders")
    op.drop_index(op.f("ix_orders_position_id"), table_name="orders")
    op.drop_table("orders")
    op.drop_index("ledger_of_user", table_name="ledger_entries")
    op.drop_index(op.f("ix_ledger_entries_position_id"), table_name="ledger_entries")
    op.drop_table("ledger_entries")
    op.drop_index(op.f("ix_funding_payments_user_id"), table_name="funding_payments")
    op.drop_table("funding_payments")
    op.drop_index(op.f("ix_refusals_signal_id"), table_name="refusals")
    op.drop_index(op.f("ix_refusals_at"), table_name="refusals")
    op.drop_index("refusals_once", table_name="refusals", postgresql_where=sa.text("signal_id IS NOT NULL"))
    op.drop_table("refusals")
    op.drop_index("positions_one_live", table_name="positions", postgresql_where=sa.text("status IN ('OPEN', 'CLOSING')"))
    op.drop_index("positions_of_user", table_name="positions")
    op.drop_index(op.f("ix_positions_signal_id"), table_name="positions")
    op.drop_table("positions")
    op.drop_index("signals_unreviewed", table_name="signals", postgresql_where=sa.text("outcome IS NULL"))
    op.drop_index(op.f("ix_signals_scan_id"), table_name="signals")
    op.drop_index(op.f("ix_signals_created_at"), table_name="signals")
    op.drop_table("signals")
    op.drop_index(op.f("ix_settings_history_user_id"), table_name="settings_history")
    op.drop_table("settings_history")
    op.drop_index(op.f("ix_panic_receipts_user_id"), table_name="panic_receipts")
    op.drop_table("panic_receipts")
    op.drop_index(op.f("ix_logins_user_id"), table_name="logins")
    op.drop_table("logins")
    op.drop_table("users")
    op.drop_index(op.f("ix_scans_as_of"), table_name="scans")
    op.drop_table("scans")
