"""POST /keys/check: the audit of a user's key pair, before anything depends on it.

A key that may withdraw is refused: whoever steals it could take the money, not only trade it. What the exchange does not say is not
taken as fine.
"""

import asyncio

import msgspec

from engine.execution.asking import answered
from engine.execution.desk import Desk
from engine.execution.modes import unfit
from engine.ports import AccountModes, Exchange, Permissions, Urgency
from shared.execution import Account, KeyCheckReply
from shared.problem import Problem

CHECK_SECONDS = 12.0


async def check_keys(desk: Desk, account: Account) -> KeyCheckReply | Problem:
    """What the pair may do, what stands in the way of arming and what would be wiser; only reads."""
    exchange = desk.venues.exchange(account, Urgency.ENTER)
    if isinstance(exchange, Problem):
        return exchange
    asked = await answered(_asked(exchange), CHECK_SECONDS)
    if isinstance(asked, Problem):
        return asked
    permissions, modes = asked
    return KeyCheckReply(
        can_trade=bool(permissions.can_trade),
        can_withdraw=permissions.can_withdraw is not False,
        ip_restricted=bool(permissions.ip_restricted),
        position_mode=modes.position,
        problems=problems_with(permissions, modes),
        advice=advice_on(permissions),
        as_of=desk.clock.now(),
    )


async def _asked(exchange: Exchange) -> tuple[Permissions, AccountModes]:
    permissions, modes = await asyncio.gather(exchange.permissions(), exchange.modes())
    return permissions, modes


def problems_with(permissions: Permissions, modes: AccountModes) -> list[Problem]:
    """What stops arming."""
    found = []
    if permissions.can_trade is not True:
        found.append(Problem(code="key_cannot_trade", detail="This key may not trade futures. Allow it at the exchange."))
    if permissions.can_withdraw is not False:
        detail = "This key may withdraw money, or the exchange does not say. Make one that may not."
        found.append(Problem(code="key_can_withdraw", detail=detail))
    return found + [msgspec.structs.replace(lack, detail=_sentence(lack.detail)) for lack in unfit(modes)]


def _sentence(detail: str) -> str:
    """The other problems of a key are whole sentences."""
    return f"{detail[0].upper()}{detail[1:]}."


def advice_on(permissions: Permissions) -> list[Problem]:
    """What would be wiser."""
    if permissions.ip_restricted:
        return []
    return [Problem(code="key_not_ip_restricted", detail="Bind the key to this server's address at the exchange.")]
