"""Hand-written fakes of what is behind keys, second factors and arming: a vault in memory, and an engine that opens nothing."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

from msgspec import structs

from orchestrator.core.arming import Lack, Readiness
from orchestrator.errors import EngineRefused, EngineUnavailable
from orchestrator.ports import FactorRow, SealedRow
from shared.enums import PositionMode
from shared.execution import (
    Account,
    CanaryReply,
    KeyCheckReply,
    PositionsReply,
    PublicKeyReply,
    ResealRequest,
    SealedCredentials,
    VenuePosition,
    VenueState,
)
from shared.problem import Problem

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class FakeVault:
    """Implements KeyVault and FactorVault over dicts."""

    def __init__(self) -> None:
        self.keys: dict[UUID, SealedCredentials] = {}
        self.known: dict[UUID, Readiness] = {}
        self.factors: dict[UUID, FactorRow] = {}
        self.held: dict[UUID, list[str]] = {}
        self.in_real: Callable[[UUID], bool] = lambda user_id: True

    async def readiness(self, user_id: UUID) -> Readiness:
        factor = self.factors.get(user_id)
        known = self.known.get(user_id, Readiness())
        enrolled = factor is not None and factor.confirmed_at is not None
        return structs.replace(known, in_real=self.in_real(user_id), has_key=user_id in self.keys, totp=enrolled)

    async def credentials(self, user_id: UUID) -> SealedCredentials | None:
        return self.keys.get(user_id)

    async def holds_real(self, user_id: UUID) -> list[str]:
        return self.held.get(user_id, [])

    async def keep_key(self, user_id: UUID, credentials: SealedCredentials, at: datetime, *, claimed: bool, stopped: str) -> bool:
        if claimed and any(known.claimed for owner, known in self.known.items() if owner != user_id):
            return False
        self.keys[user_id] = credentials
        self.known[user_id] = Readiness(claimed=claimed, refusal=stopped)
        return True

    async def drop_key(self, user_id: UUID, at: datetime, stopped: str) -> bool:
        self.known[user_id] = Readiness(refusal=stopped)
        return self.keys.pop(user_id, None) is not None

    async def keep_audit(
        self, user_id: UUID, credentials: SealedCredentials, at: datetime, problems: list[Lack], advice: list[Lack]
    ) -> bool:
        return self._keep(user_id, credentials, audited_at=at, key_problems=problems, key_advice=advice)

    async def keep_canary(
        self, user_id: UUID, credentials: SealedCredentials, at: datetime, *, passed: bool, detail: str, refusal: str | None
    ) -> bool:
        return self._keep(user_id, credentials, canary_at=at, canary_passed=passed, canary_detail=detail, refusal=refusal)

    async def arm(self, user_id: UUID, credentials: SealedCredentials, at: datetime) -> bool:
        return self._keep(user_id, credentials, armed_at=at, refusal=None)

    async def armed(self) -> list[tuple[UUID, Readiness]]:
        known = [(user_id, await self.readiness(user_id)) for user_id in self.known]
        return [(user_id, one) for user_id, one in known if one.armed_at is not None and one.in_real]

    async def sealed_rows(self) -> list[SealedRow]:
        return [SealedRow(user_id=user_id, credentials=one) for user_id, one in self.keys.items()]

    async def replace_seal(self, row: SealedRow, credentials: SealedCredentials) -> bool:
        if self.keys.get(row.user_id) != row.credentials:
            return False
        self.keys[row.user_id] = credentials
        return True

    async def factor(self, user_id: UUID) -> FactorRow | None:
        return self.factors.get(user_id)

    async def begin_factor(self, row: FactorRow) -> bool:
        before = self.factors.get(row.user_id)
        if before is not None and before.confirmed_at is not None:
            return False
        self.factors[row.user_id] = row
        return True

    async def confirm_factor(self, row: FactorRow, at: datetime, step: int, recovery_hashes: list[str]) -> bool:
        if self.factors.get(row.user_id) != row:
            return False
        self.factors[row.user_id] = structs.replace(row, confirmed_at=at, last_step=step, recovery_hashes=recovery_hashes)
        return True

    async def spend_step(self, user_id: UUID, step: int) -> bool:
        row = self.factors[user_id]
        if row.last_step >= step:
            return False
        self.factors[user_id] = structs.replace(row, last_step=step)
        return True

    async def spend_recovery(self, user_id: UUID, hashed: str) -> bool:
        row = self.factors[user_id]
        if hashed not in row.recovery_hashes:
            return False
        left = [kept for kept in row.recovery_hashes if kept != hashed]
        self.factors[user_id] = structs.replace(row, recovery_hashes=left)
        return True

    async def end_factor(self, user_id: UUID) -> bool:
        return self.factors.pop(user_id, None) is not None

    def _keep(self, user_id: UUID, credentials: SealedCredentials, **values: object) -> bool:
        if self.keys.get(user_id) != credentials:
            return False
        self.known[user_id] = structs.replace(self.known.get(user_id, Readiness()), **values)
        return True


class FakeSealer:
    """Seals by counting: what it was given can be found nowhere."""

    def __init__(self) -> None:
        self.sealed = 0
        self.away = False

    async def seal(self, user_id: UUID, api_key: str, api_secret: str) -> SealedCredentials:
        if self.away:
            raise EngineUnavailable("/keys: ConnectError")
        self.sealed += 1
        return SealedCredentials(key_id="k1", sealed=f"sealed{self.sealed}")


class FakeKeyEngine:
    """The engine's doors for keys: everything is well until told otherwise."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.canary_passes = True
        self.canary_detail = ""
        self.away = False
        self.refuses: tuple[str, str] | None = None
        self.canaries: list[Account] = []
        self.open_symbols: list[VenuePosition] = []

    async def public_key(self) -> PublicKeyReply:
        self._answer()
        return PublicKeyReply(key_id="k1", public_key="-")

    async def reseal(self, request: ResealRequest) -> SealedCredentials:
        return SealedCredentials(key_id="k2", sealed=request.credentials.sealed)

    async def claim_keys(self, user_id: str) -> SealedCredentials:
        self._answer()
        return SealedCredentials(key_id="k1", sealed=f"claimed for {user_id}")

    async def check_keys(self, account: Account) -> KeyCheckReply:
        self._answer()
        return KeyCheckReply(
            can_trade=True,
            can_withdraw=False,
            ip_restricted=True,
            position_mode=PositionMode.ONE_WAY,
            problems=self.problems,
            advice=[],
            as_of=AT,
        )

    async def canary(self, account: Account) -> CanaryReply:
        self._answer()
        self.canaries.append(account)
        detail = "a protective order was placed, read back and cancelled" if self.canary_passes else "the order was not confirmed"
        return CanaryReply(passed=self.canary_passes, symbol="BTCUSDT", detail=self.canary_detail or detail, as_of=AT)

    async def positions(self, account: Account) -> PositionsReply:
        state = VenueState.OPEN if self.open_symbols else VenueState.FLAT
        return PositionsReply(state=state, positions=self.open_symbols, as_of=AT)

    def _answer(self) -> None:
        if self.away:
            raise EngineUnavailable("/keys: ReadTimeout")
        if self.refuses is not None:
            raise EngineRefused(*self.refuses, 403)
