"""Opens an account at the exchange, or says why that is refused; nothing is ever opened with anybody else's key."""

from engine.core.order import OrderRefusal, no
from engine.errors import SealBroken, VenueError
from engine.execution.asking import refusal_of
from engine.ports import Exchange, Exchanges, Urgency
from shared.execution import RealAccount
from shared.problem import Problem


def opened(exchanges: Exchanges, account: RealAccount, urgency: Urgency) -> Exchange | Problem:
    """The account's exchange, or a refusal: no key, or one that does not open."""
    if account.credentials is None:
        return no(OrderRefusal.NO_CREDENTIALS, "the account has no exchange key; nothing was sent")
    try:
        return exchanges.of(account, urgency)
    except (SealBroken, VenueError) as error:
        return refusal_of(error)
