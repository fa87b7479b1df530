"""A smoke run whose exchange goes wrong: it says what failed, and ends only when the exchange itself shows nothing of it any more."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest

from deploy.errors import DeployError
from deploy.smoke import APART, TRIES, Smoke, held_already
from deploy.smoke_order import Instrument, Order
from shared.execution import RealAccount, SealedCredentials
from shared.wire import encode

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
ACCOUNT = RealAccount(user_id="smoke", dry_run=False, credentials=SealedCredentials(key_id="k", sealed="c2VhbGVk"))
SOL = Instrument(
    symbol="SOLUSDT",
    least_notional=Decimal(6),
    tick_size=Decimal("0.01"),
    price=Decimal(100),
    quote_volume=Decimal(1),
)
ORDER = Order(instrument=SOL, leverage=7, notional=Decimal(7), stop_loss=Decimal(98), take_profit=Decimal(104))


class Engine:
    """An engine with one account behind it: what rests and what is held changes as its requests say, unless a path is scripted."""

    def __init__(self) -> None:
        self.held = Decimal(0)
        self.resting: list[str] = []
        self.scripts: dict[str, list[Callable[[dict[str, Any]], httpx.Response]]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def script(self, path: str, *answers: Callable[[dict[str, Any]], httpx.Response]) -> None:
        self.scripts[path] = list(answers)

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path, body = request.url.path, msgspec.json.decode(request.content)
        self.asked.append((path, body))
        if self.scripts.get(path):
            return self.scripts[path].pop(0)(body)
        answers: dict[str, Callable[[dict[str, Any]], httpx.Response]] = {
            "/keys/check": lambda _: audit(),
            "/execute/balance": lambda _: told(asset="USDT", total="50", free="50", as_of=AT),
            "/execute/entry": self.enter,
            "/execute/close": self.close,
            "/execute/cancel": self.cancel,
            "/execute/truth": self.truth,
        }
        return answers[path](body)

    def enter(self, body: dict[str, Any], *, stop: bool = True) -> httpx.Response:
        self.held = Decimal("0.07")
        name = body["client_order_id"].removeprefix("nt-e-")
        self.resting = [f"nt-s-{name}", f"nt-t-{name}"] if stop else [f"nt-t-{name}"]
        return report(body, "FILLED", unprotected_seconds=0.2)

    def close(self, body: dict[str, Any]) -> httpx.Response:
        self.held, self.resting = Decimal(0), []
        return report(body, "FILLED", reduce_only=True, order_side="SELL")

    def cancel(self, body: dict[str, Any]) -> httpx.Response:
        self.resting = [one for one in self.resting if one not in body["client_order_ids"]]
        return told(gone=body["client_order_ids"], unknown=[], as_of=AT)

    def truth(self, _: dict[str, Any]) -> httpx.Response:
        return told(
            as_of=AT,
            balance={"asset": "USDT", "total": "50", "free": "50", "as_of": AT},
            position_mode="ONE_WAY",
            positions=[held("SOLUSDT", self.held)] if self.held else [],
            orders=[resting(name, Decimal("0.07")) for name in self.resting],
            trades=[],
            income=[],
        )


def behind(engine: Engine, body: dict[str, Any]) -> httpx.Response:
    """A truth from before the fill."""
    held, resting, engine.held, engine.resting = engine.held, engine.resting, Decimal(0), []
    answer = engine.truth(body)
    engine.held, engine.resting = held, resting
    return answer


def told(**body: Any) -> httpx.Response:
    return httpx.Response(200, content=encode(body))


def audit(*problems: dict[str, Any]) -> httpx.Response:
    return told(
        can_trade=True,
        can_withdraw=bool(problems),
        ip_restricted=True,
        position_mode="ONE_WAY",
        problems=problems,
        advice=[],
        as_of=AT,
    )


def report(body: dict[str, Any], status: str, **changes: Any) -> httpx.Response:
    fill = {"trade_id": "1", "price": "100", "quantity": "0.07", "fee": "0.0035", "maker": False, "at": AT}
    done = status == "FILLED"
    whole = {
        "client_order_id": body["client_order_id"],
        "venue": "binance",
        "dry_run": False,
        "status": status,
        "symbol": body["symbol"],
        "side": body["side"],
        "order_side": "BUY",
        "reduce_only": False,
        "requested_quantity": "0.07",
        "filled_quantity": "0.07" if done else "0",
        "average_price": "100" if done else None,
        "fills": [fill] if done else [],
        "as_of": AT,
    }
    return told(**(whole | changes))


def held(symbol: str, quantity: Decimal) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "side": "LONG",
        "quantity": quantity,
        "entry_price": "100",
        "mark_price": "100",
        "leverage": "7",
        "margin": "1",
        "unrealized_pnl": "0",
        "liquidation_price": None,
    }


def resting(name: str, quantity: Decimal) -> dict[str, Any]:
    return {
        "symbol": "SOLUSDT",
        "client_order_id": name,
        "venue_order_id": "9",
        "kind": "STOP" if name.startswith("nt-s-") else "TARGET",
        "conditional": True,
        "state": "WORKING",
        "order_side": "SELL",
        "reduce_only": True,
        "quantity": quantity,
        "filled_quantity": "0",
        "trigger_price": "98" if name.startswith("nt-s-") else "104",
        "created_at": AT,
    }


def lost(_: dict[str, Any]) -> httpx.Response:
    raise httpx.ReadTimeout("no answer")


def away(_: dict[str, Any]) -> httpx.Response:
    return httpx.Response(503, content=encode({"code": "venue_away", "detail": "the exchange does not answer", "trace_id": ""}))


class Run:
    def __init__(self, engine: Engine) -> None:
        self.lines: list[str] = []
        self.rested: list[float] = []
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(engine), base_url="http://engine")
        self.smoke = Smoke(self.client, ACCOUNT, ORDER, self.lines.append, self.rest)

    async def rest(self, seconds: float) -> None:
        self.rested.append(seconds)

    def passes(self) -> bool:
        return asyncio.run(self.smoke.run())

    def words(self) -> list[str]:
        return [line.partition(":")[0] for line in self.lines]


def test_a_whole_run_opens_protects_closes_and_proves_that_nothing_is_left() -> None:
    run = Run(Engine())
    assert run.passes()
    assert run.words() == [
        "ok      1. the key",
        "ok      2. the balance",
        "ok      3. the entry",
        "ok      4. stop and target",
        "ok      5. the close",
        "ok      6. nothing is left",
    ]


def test_a_key_that_may_withdraw_ends_the_run_before_anything_is_sent() -> None:
    engine = Engine()
    problem = {"code": "key_may_withdraw", "detail": "the key may withdraw", "trace_id": ""}
    engine.script("/keys/check", lambda _: audit(problem))
    run = Run(engine)
    assert not run.passes()
    assert run.lines == ["FAILED  1. the key: the key may withdraw"]
    assert engine.paths() == ["/keys/check"]


def test_a_refused_entry_fails_and_the_exchange_is_still_asked_whether_anything_is_left() -> None:
    engine = Engine()
    refusal = {"code": "leverage_not_set", "detail": "the exchange did not take the leverage", "trace_id": ""}
    engine.script("/execute/entry", lambda body: report(body, "REFUSED", refusal=refusal))
    run = Run(engine)
    assert not run.passes()
    assert run.words()[2:] == ["FAILED  3. the entry", "ok      6. nothing is left"]
    assert "/execute/close" not in engine.paths()


def test_a_missing_stop_fails_and_the_position_is_closed_all_the_same() -> None:
    engine = Engine()
    engine.script("/execute/entry", lambda body: engine.enter(body, stop=False))
    run = Run(engine)
    assert not run.passes()
    assert run.words()[3:] == ["FAILED  4. stop and target", "ok      6. nothing is left"]
    assert engine.held == 0
    assert engine.resting == []


def test_an_entry_that_was_closed_at_once_for_want_of_a_stop_is_a_failure() -> None:
    engine = Engine()
    fill = {"trade_id": "2", "price": "100", "quantity": "0.07", "fee": "0", "maker": False, "at": AT}
    engine.script("/execute/entry", lambda body: report(body, "FILLED", closing_order_id="nt-x-1", closing_fills=[fill]))
    run = Run(engine)
    assert not run.passes()
    assert run.lines[2] == "FAILED  3. the entry: its stop was not confirmed, so that it was closed at once"


def test_an_entry_without_an_answer_is_asked_for_until_it_is_known_and_then_closed() -> None:
    engine = Engine()

    def late(body: dict[str, Any]) -> httpx.Response:
        assert body["resume"] is True
        return engine.enter(body)

    engine.script("/execute/entry", lost, lambda body: report(body, "UNKNOWN"), late)
    run = Run(engine)
    assert not run.passes()
    assert run.words()[2:] == ["FAILED  3. the entry", "ok      6. nothing is left"]
    assert engine.held == 0
    assert len(run.rested) >= 2


def test_an_engine_that_stumbles_at_the_end_does_not_leave_the_position_open() -> None:
    engine = Engine()
    engine.script("/execute/close", away, away)
    engine.script("/execute/truth", engine.truth, away, engine.truth)
    run = Run(engine)
    assert not run.passes()
    assert run.words()[4:] == ["FAILED  5. the close", "ok      6. nothing is left"]
    assert engine.held == 0


def test_a_reading_that_is_behind_the_fill_is_not_believed_alone() -> None:
    engine = Engine()
    engine.script("/execute/close", away)
    engine.script("/execute/truth", engine.truth, lambda body: behind(engine, body))
    run = Run(engine)
    assert not run.passes()
    assert run.words()[4:] == ["FAILED  5. the close", "ok      6. nothing is left"]
    assert engine.held == 0
    assert engine.resting == []


def test_two_readings_some_time_apart_say_that_nothing_is_left() -> None:
    engine = Engine()
    run = Run(engine)
    assert run.passes()
    assert engine.paths()[-2:] == ["/execute/truth", "/execute/truth"]
    assert run.rested == [APART]


def test_what_cannot_be_closed_is_said_aloud() -> None:
    engine = Engine()
    engine.script("/execute/close", *[away] * (TRIES + 1))
    run = Run(engine)
    assert not run.passes()
    assert "LOOK AT THE EXCHANGE: SOLUSDT may still be open" in run.lines[-1]


def test_whoever_interrupts_it_still_leaves_nothing_open() -> None:
    engine = Engine()
    run = Run(engine)

    async def interrupted() -> None:
        work = asyncio.ensure_future(run.smoke.run())
        engine.script("/execute/truth", lambda body: (work.cancel(), engine.truth(body))[1])
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(interrupted())
    assert engine.held == 0
    assert run.words()[-1] == "ok      6. nothing is left"


def test_whoever_interrupts_it_again_and_again_is_told_to_wait_until_nothing_is_open() -> None:
    class Impatient(Run):
        async def rest(self, seconds: float) -> None:
            await super().rest(seconds)
            for _ in range(3):
                work.cancel()
                await asyncio.sleep(0)

    engine = Engine()
    run = Impatient(engine)

    async def interrupted() -> None:
        engine.script("/execute/truth", lambda body: (work.cancel(), engine.truth(body))[1])
        with pytest.raises(asyncio.CancelledError):
            await work

    with asyncio.Runner() as runner:
        work = runner.get_loop().create_task(run.smoke.run())
        runner.run(interrupted())
    assert engine.held == 0
    assert "        what is open is being closed; wait" in run.lines
    assert run.words()[-1] == "ok      6. nothing is left"


@pytest.mark.parametrize("answer", [away, lambda _: told(state="UNKNOWN", positions=[], as_of=AT)])
def test_nothing_is_tried_while_it_is_not_known_what_the_account_holds(
    answer: Callable[[dict[str, Any]], httpx.Response],
) -> None:
    engine = Engine()
    engine.script("/execute/positions", answer)
    run = Run(engine)
    with pytest.raises(DeployError, match="not known"):
        asyncio.run(held_already(run.client, ACCOUNT))


def test_a_symbol_that_is_held_already_is_not_touched() -> None:
    engine = Engine()
    engine.script("/execute/positions", lambda _: told(state="OPEN", positions=[held("XRPUSDT", Decimal(5))], as_of=AT))
    assert asyncio.run(held_already(Run(engine).client, ACCOUNT)) == {"XRPUSDT"}
