"""Which venue an account's orders go to: its type picks a constructor, and nothing after that asks for the mode again.

A paper account is a type of its own, so no path leads from it to an exchange client.
"""

from collections.abc import Callable

import msgspec

from engine.core.order import OrderRefusal, no
from engine.execution.opening import opened
from engine.ports import Exchange, Exchanges, Urgency, Venue
from shared.execution import Account, PaperAccount, RealAccount
from shared.problem import Problem


class Venues(msgspec.Struct, frozen=True, kw_only=True):
    """The constructors. `dry_run` is the engine's own setting: an entry is dry if either side says so."""

    paper: Callable[[PaperAccount], Venue]
    dry: Callable[[RealAccount], Venue]
    real: Callable[[RealAccount], Venue]
    exchanges: Exchanges
    dry_run: bool

    def of(self, account: Account) -> Venue:
        """The venue of an account; for a close, the account says what its position is."""
        if isinstance(account, PaperAccount):
            return self.paper(account)
        return self.dry(account) if account.dry_run else self.real(account)

    def for_entry(self, account: Account) -> Venue:
        """The venue of a new position: dry also where the engine's setting says so."""
        if isinstance(account, PaperAccount):
            return self.paper(account)
        return self.dry(account) if account.dry_run or self.dry_run else self.real(account)

    def for_resumed_entry(self, account: Account) -> Venue:
        """The venue of an entry that was sent before: a setting that changed since does not undo it."""
        return self.of(account)

    def exchange(self, account: Account, urgency: Urgency = Urgency.PROTECT) -> Exchange | Problem:
        """A REAL account itself, for what only an exchange can say; refused where it has no key."""
        if isinstance(account, PaperAccount):
            return no(OrderRefusal.REAL_NOT_AVAILABLE, "a paper account is at no exchange")
        return opened(self.exchanges, account, urgency)
