"""What is kept of sealed keys, second factors and arming. Nothing here can open a seal."""

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from orchestrator.core.arming import Lack, Readiness
from shared.execution import SealedCredentials


class SealedRow(msgspec.Struct, frozen=True, kw_only=True):
    """One user's sealed key."""

    user_id: UUID
    credentials: SealedCredentials


class FactorRow(msgspec.Struct, frozen=True, kw_only=True):
    """A second factor as it is kept: the secret encrypted, recovery codes as hashes. `last_step` is the newest time step used."""

    user_id: UUID
    secret: str
    begun_at: datetime
    confirmed_at: datetime | None = None
    last_step: int = 0
    recovery_hashes: list[str] = []

    def __repr__(self) -> str:
        return "FactorRow(***)"


class KeyVault(Protocol):
    """Sealed keys and how far their owners are on the way to real money. Every change is audited, without the keys."""

    async def readiness(self, user_id: UUID) -> Readiness:
        """What is known of a user."""
        ...

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        """A user's sealed key."""
        ...

    async def holds_real(self, user_id: UUID) -> list[str]:
        """Symbols in which a user has a position or an order at the exchange."""
        ...

    async def keep_key(self, user_id: UUID, credentials: SealedCredentials, at: datetime, *, claimed: bool, stopped: str) -> bool:
        """Keep a key in place of the one before, unaudited, and stop real entries with that reason; a canary before proves nothing.

        False where the owner's pair is claimed by somebody else.
        """
        ...

    async def drop_key(self, user_id: UUID, at: datetime, stopped: str) -> bool:
        """Forget a key; False when there was none."""
        ...

    async def keep_audit(
        self, user_id: UUID, credentials: SealedCredentials, at: datetime, problems: list[Lack], advice: list[Lack]
    ) -> bool:
        """What the exchange says of a key; False when it is not the user's key any more."""
        ...

    async def keep_canary(
        self, user_id: UUID, credentials: SealedCredentials, at: datetime, *, passed: bool, detail: str, refusal: str | None
    ) -> bool:
        """How a canary ended, and why entries stop, if they do; False when it is not the user's key any more."""
        ...

    async def arm(self, user_id: UUID, credentials: SealedCredentials, at: datetime) -> bool:
        """Real entries may be made from now on; False when it is not the user's key any more."""
        ...

    async def armed(self) -> list[tuple[UUID, Readiness]]:
        """Everyone who was armed and is in mode REAL."""
        ...

    async def sealed_rows(self) -> list[SealedRow]:
        """Everyone's sealed keys, for sealing them anew."""
        ...

    async def replace_seal(self, row: SealedRow, credentials: SealedCredentials) -> bool:
        """The same pair under another key; False when the row has changed meanwhile."""
        ...


class FactorVault(Protocol):
    """Second factors. Every change is audited, without secrets."""

    async def factor(self, user_id: UUID) -> FactorRow | None:
        """A user's, confirmed or not."""
        ...

    async def begin_factor(self, row: FactorRow) -> bool:
        """Keep a new one in place of one that was never confirmed; False when one is confirmed."""
        ...

    async def confirm_factor(self, row: FactorRow, at: datetime, step: int, recovery_hashes: list[str]) -> bool:
        """It counts from now on; False when it was changed or confirmed meanwhile."""
        ...

    async def spend_step(self, user_id: UUID, step: int) -> bool:
        """Take a time step; False when it, or a later one, was taken."""
        ...

    async def spend_recovery(self, user_id: UUID, hashed: str) -> bool:
        """Take a recovery code; False when there is none such."""
        ...

    async def end_factor(self, user_id: UUID) -> bool:
        """Forget it; False when there was none."""
        ...


class Sealer(Protocol):
    """Seals a pair to the engine: what goes in does not come out here."""

    async def seal(self, user_id: UUID, api_key: str, api_secret: str) -> SealedCredentials:
        """The pair, bound to its owner.

        Raises:
            EngineUnavailable: The engine did not say what to seal to, or (EngineRefused) has no seal.
        """
        ...
