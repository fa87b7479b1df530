"""What somebody with real money should look at now, each with what to do: pure, from what is known of the account and what is open.

An alarm stands as long as its cause does; the toast that told of it first is long gone by then.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from orchestrator.core.arming import stopped_by
from orchestrator.ports import PositionRow, RealRow, UserRow
from orchestrator.web import format as fmt
from orchestrator.web.pages_words import sentence
from orchestrator.web.replies import real_balance_status
from shared.enums import Mode
from shared.wire import plain

UNHEARD: Final = timedelta(minutes=3)
"""The account is read each minute; after three without an answer the pages say so."""

POSITION_NAME: Final = "position"
SETTINGS: Final = "/dashboard/settings"
SHOWN: Final = 6
HEDGE: Final = "HEDGE"


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at: `does` names the way to `href`, where something can be done about it here."""

    title: str
    says: str
    tone: str = "danger"
    href: str = ""
    does: str = ""


class Wallet(msgspec.Struct, frozen=True, kw_only=True):
    """The real wallet as the exchange told it, none, syncing, fresh or stale, and when (wall time)."""

    status: str
    balance: str
    heard_at: datetime | None


def wallet_of(user: UserRow, wall: datetime, *, syncing: bool) -> Wallet:
    """What the exchange last said of the wallet."""
    return Wallet(
        status=real_balance_status(user, wall, syncing=syncing),
        balance=fmt.money(user.real_balance_cache),
        heard_at=user.real_balance_at,
    )


def is_naked(row: PositionRow) -> bool:
    """Whether an open real position has no stop that was read back at the exchange."""
    return row.mode == Mode.REAL and not row.dry_run and row.status == "OPEN" and row.stop_order_id is None


def alarms_of(user: UserRow, real: RealRow, rows: Sequence[PositionRow], wall: datetime, *, dry_run: bool) -> list[Alarm]:
    """Everything that should be seen, what costs money first."""
    found = [*_naked(rows), *_unanswered(real), *_differs(real)]
    if user.mode == Mode.REAL:
        found += _stopped(user, real, dry_run=dry_run)
        found += _unheard(real, wall, dry_run=dry_run)
        found += _hedged(real)
    found += _foreign(real)
    if user.mode == Mode.REAL and dry_run:
        found.append(_DRY)
    return found


_DRY: Final = Alarm(
    tone="warn",
    title="Dry run",
    says="This server simulates entries in REAL at the real market. Nothing is sent to the exchange, no money is at stake.",
)


def _naked(rows: Sequence[PositionRow]) -> Iterator[Alarm]:
    for row in rows:
        if is_naked(row):
            yield Alarm(
                title=f"{row.symbol} has no confirmed stop",
                says="No stop of it was read back at the exchange. It is put back or the position is closed, within seconds.",
                href=f"/dashboard/positions/{row.id}",
                does="See it, or close it now",
            )


def _unanswered(real: RealRow) -> Iterator[Alarm]:
    if real.unknown:
        yield Alarm(
            title=f"No answer yet for {_named(real.unknown)}",
            says="An order was sent and the exchange has not said what became of it. It is treated as open and looked up until known; "
            "nothing new enters there meanwhile.",
        )


def _differs(real: RealRow) -> Iterator[Alarm]:
    if real.alarmed_at is not None and real.wallet is not None:
        yield Alarm(
            title="Ledger and exchange differ",
            says=f"The exchange's wallet holds {fmt.money(real.wallet)}, the ledger {fmt.money(real.wallet - real.difference)}. "
            "The exchange is right: look at its income history for what is missing here.",
            href="/dashboard/ledger?mode=REAL",
            does="The ledger",
        )


def _stopped(user: UserRow, real: RealRow, *, dry_run: bool) -> Iterator[Alarm]:
    """Why no new real entry is made, and the way to make them again."""
    stop = stopped_by(real, dry_run=dry_run)
    if not user.has_api_key:
        why, does = "There is no exchange key of this account.", "Store a key and arm REAL"
    elif real.armed_at is None and real.refusal is None:
        why, does = "REAL is not armed.", "Arm REAL"
    elif stop is not None:
        why, does = sentence(stop), "Check everything again and arm REAL"
    else:
        return
    yield Alarm(title="No new real entries", says=f"{why} Open positions stay protected.", href=f"{SETTINGS}#mode", does=does)


def _unheard(real: RealRow, wall: datetime, *, dry_run: bool) -> Iterator[Alarm]:
    if real.heard_at is None or not real.opened:
        if not dry_run:
            yield Alarm(
                tone="", title="Reading your account", says="What the exchange holds for you is being read for the first time."
            )
    elif wall - real.heard_at > UNHEARD:
        yield Alarm(
            tone="warn",
            title=f"Your account was last read {fmt.age((wall - real.heard_at).total_seconds())} ago",
            says="The figures are from then. Stops and targets rest at the exchange and do not need this server.",
        )


def _hedged(real: RealRow) -> Iterator[Alarm]:
    if real.position_mode == HEDGE:
        yield Alarm(
            title="The account is in hedge mode",
            says="Entries are refused. Switch the position mode to one-way at the exchange, with nothing open there.",
        )


def _foreign(real: RealRow) -> Iterator[Alarm]:
    if not real.foreign:
        return
    named = [
        f"{plain(one.quantity.normalize())} {one.side} {one.symbol}{'' if one.name == POSITION_NAME else f' (order {one.name})'}"
        for one in real.foreign[:SHOWN]
    ]
    more = len(real.foreign) - len(named)
    rest = f" and {more} more" if more > 0 else ""
    yield Alarm(
        tone="warn",
        title="Not of NeuroTrade, at your exchange account",
        says=f"{', '.join(named)}{rest}. Nothing of ours enters in these symbols. It is yours to keep or to close at the exchange.",
    )


def _named(symbols: Sequence[str]) -> str:
    shown = ", ".join(symbols[:SHOWN])
    return shown if len(symbols) <= SHOWN else f"{shown} and {len(symbols) - SHOWN} more"
