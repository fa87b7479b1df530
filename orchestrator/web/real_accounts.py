"""The accounts at the exchange as a source of /ready, and what stands wrong at them as metrics: numbers, never whose.

The store is asked with each look at the sources, so every replica says the same and none of them has to be the one that reconciled.
"""

from datetime import datetime
from math import nan

from prometheus_client import Gauge

from orchestrator.errors import StoreUnavailable
from orchestrator.ports import Reads, RealAccounts
from orchestrator.web.metrics import REGISTRY

FOLLOWED = Gauge("nt_real_accounts", "Accounts at the exchange that are followed", registry=REGISTRY)
FOREIGN_ACCOUNTS = Gauge("nt_real_foreign_accounts", "Accounts that hold something that is not ours", registry=REGISTRY)
FOREIGN = Gauge("nt_real_foreign_holdings", "Positions and orders at the exchange that are not ours", registry=REGISTRY)
DIFFERING = Gauge(
    "nt_real_wallets_differing", "Wallets at the exchange that differ from their ledger for 45 s", registry=REGISTRY
)
SERIES = (FOLLOWED, FOREIGN_ACCOUNTS, FOREIGN, DIFFERING)


class Truths:
    """When the least lately heard account was heard. While the store does not say, the metrics are NaN: not known is not zero."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def check(self) -> datetime | None:
        """The wall moment of the oldest newest truth; None, as good as now, where no account is followed.

        Raises:
            StoreUnavailable: The store is away, or of an account no truth was ever heard.
        """
        for series in SERIES:
            series.set(nan)
        found = await self._reads.real_accounts()
        _show(found)
        if found.unheard:
            raise StoreUnavailable(f"{found.unheard} of {found.followed} real accounts were never heard")
        return found.oldest


def _show(found: RealAccounts) -> None:
    FOLLOWED.set(found.followed)
    FOREIGN_ACCOUNTS.set(found.foreign_accounts)
    FOREIGN.set(found.foreign)
    DIFFERING.set(found.differing)
