"""Puts the use cases together from their ports: the one place that knows which of them stands on which."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from orchestrator.ports import Balances, Bus, Clock, Engine, Ids, Jobs, Lifeline, Mutex, Transactions
from orchestrator.trading.approve import Approve
from orchestrator.trading.balance_sync import BalanceSync
from orchestrator.trading.close import Close
from orchestrator.trading.desk import TradingDesk
from orchestrator.trading.emergency import Emergency
from orchestrator.trading.enter import Enter, EntryRules
from orchestrator.trading.flatten import Flatten
from orchestrator.trading.follow import Follow, Rhythm
from orchestrator.trading.panic import Panic
from orchestrator.trading.protect import Protect
from orchestrator.trading.reconcile import Reconcile
from orchestrator.trading.review import Review
from orchestrator.trading.scan import Scan, ScanRules
from orchestrator.trading.settle import Settle
from orchestrator.trading.stop import Stop
from orchestrator.trading.watch import Watch


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """Everything outside that trading needs."""

    transactions: Transactions
    engine: Engine
    balances: Balances
    mutex: Mutex
    bus: Bus
    clock: Clock
    ids: Ids
    jobs: Jobs
    lifeline: Lifeline


class Trading(msgspec.Struct, frozen=True, kw_only=True):
    """The use cases. The desk serves the web process, the others the worker.

    The worker calls `scan.run(candle_close)` on each close, `watch.run()` and `follow.alarm()` each wall second, `settle.run()` at start
    and every two wall seconds, as are `panic.resume()`, `emergency.write_back()`, `approve.expire()`, `scan.finish()` and
    `follow.run()`, and `review.run()` each few minutes of market time. Each is safe to run twice and on several workers at once. A day's
    loss limit needs no reset: it is a sum since 00:00 UTC of market time.
    """

    desk: TradingDesk
    scan: Scan
    enter: Enter
    close: Close
    settle: Settle
    watch: Watch
    approve: Approve
    panic: Panic
    emergency: Emergency
    stop: Stop
    protect: Protect
    reconcile: Reconcile
    follow: Follow
    balances: BalanceSync
    review: Review


def compose(
    ports: Ports,
    entry_rules: EntryRules,
    scan_rules: ScanRules,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    rhythm: Rhythm | None = None,
) -> Trading:
    """The use cases on these ports.

    Args:
        ports: Adapters of one process, or fakes.
        entry_rules: What the operator decided of entries.
        scan_rules: What the operator decided of scans.
        pause: How a panic or a stop waits between two rounds.
        rhythm: How often real accounts are heard.
    """
    begin, engine, bus, clock, ids = ports.transactions, ports.engine, ports.bus, ports.clock, ports.ids
    balances = BalanceSync(begin, engine, ports.balances, clock)
    enter = Enter(begin, engine, ports.balances, balances, bus, clock, ids, ports.lifeline, entry_rules)
    close = Close(begin, engine, ports.balances, bus, clock, ids)
    settle = Settle(begin, engine, enter, close, clock)
    approve = Approve(begin, engine, enter, bus, clock)
    watch = Watch(begin, engine, close, bus, clock, ids)
    stop = Stop(begin, engine, watch, close, bus, clock, pause)
    protect = Protect(begin, engine, watch, ports.balances, bus, ids)
    reconcile = Reconcile(begin, engine, close, settle, bus, clock, ids)
    flatten = Flatten(begin, engine, reconcile, dry_run=entry_rules.dry_run)
    panic = Panic(begin, watch, close, settle, flatten, bus, clock, ids, pause)
    emergency = Emergency(engine, ports.lifeline, panic, clock, ids, pause, dry_run=entry_rules.dry_run)
    return Trading(
        desk=TradingDesk(watch, close, protect, approve, stop, panic, emergency, balances, ports.jobs),
        scan=Scan(begin, engine, enter, ports.mutex, bus, clock, ids, scan_rules),
        enter=enter,
        close=close,
        settle=settle,
        watch=watch,
        approve=approve,
        panic=panic,
        emergency=emergency,
        stop=stop,
        protect=protect,
        reconcile=reconcile,
        follow=Follow(begin, engine, reconcile, clock, rhythm),
        balances=balances,
        review=Review(begin, engine, clock),
    )
