"""Keys, two-step sign-in and arming as somebody with an API client meets them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pyotp
import pytest

from orchestrator.web.factors import CODES_A_MINUTE
from shared.enums import Side
from shared.execution import VenuePosition
from shared.problem import Problem
from tests.builders import d
from tests.unit.orchestrator.web_fakes import World, client_of

KEY = {"api_key": "k" * 64, "api_secret": "s" * 64}


class Person:
    """Somebody with a client and an authenticator."""

    def __init__(self, world: World, http: httpx.AsyncClient, user_id: UUID, token: str) -> None:
        self.world, self.http, self.id = world, http, user_id
        self.headers = {"Authorization": f"Bearer {token}"}
        self.secret = ""

    async def ask(self, method: str, path: str, body: Any = None, code: str | None = None) -> httpx.Response:
        given = self.headers | ({} if code is None else {"X-TOTP": code})
        return await self.http.request(method, path, json=body, headers=given)

    async def enrol(self) -> list[str]:
        begun = (await self.ask("POST", "/api/user/totp")).json()
        self.secret = begun["secret"]
        codes: list[str] = (await self.ask("POST", "/api/user/totp/confirm", {"code": self.code()})).json()["recovery_codes"]
        return codes

    def code(self) -> str:
        """One that was not used: half a minute later."""
        self.world.clock.real += timedelta(seconds=30)
        return pyotp.TOTP(self.secret).at(self.world.clock.real)


@asynccontextmanager
async def somebody(world: World, role: str = "USER") -> AsyncIterator[Person]:
    async with client_of(world) as http:
        user_id = await world.person(f"ada{len(world.store.users)}", role)
        token, _ = await world.token(user_id)
        yield Person(world, http, user_id, token)


async def armed(ada: Person) -> None:
    await ada.enrol()
    assert (await ada.ask("PUT", "/api/user/api-key", KEY, ada.code())).status_code == 204
    assert (await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())).json()["mode"] == "REAL"


async def test_a_stored_key_is_never_in_any_reply() -> None:
    async with somebody(World()) as ada:
        replies = [await ada.ask("PUT", "/api/user/api-key", KEY)]
        replies += [
            await ada.ask("GET", path) for path in ("/api/user/me", "/api/user/arming", "/api/settings", "/api/user/api-key")
        ]
        assert replies[0].status_code == 204
        assert not any(KEY["api_key"] in reply.text or KEY["api_secret"] in reply.text for reply in replies)


async def test_real_is_refused_with_everything_that_is_missing_the_first_to_mend_first() -> None:
    async with somebody(World()) as ada:
        reply = await ada.ask("PATCH", "/api/settings", {"mode": "REAL"})
        assert (reply.status_code, reply.json()["code"]) == (409, "no_api_key")
        assert set(reply.json()["fields"]) == {"no_api_key", "totp_not_enrolled", "canary_not_passed"}


async def test_with_a_key_and_a_second_factor_a_code_is_asked_for_and_then_the_canary_sings() -> None:
    world = World()
    async with somebody(world) as ada:
        await ada.ask("PUT", "/api/user/api-key", KEY)
        await ada.enrol()
        without = await ada.ask("PATCH", "/api/settings", {"mode": "REAL"})
        assert (without.status_code, without.json()["code"]) == (403, "totp_required")
        assert not world.key_engine.canaries
        reply = await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())
        assert (reply.status_code, reply.json()["mode"]) == (200, "REAL")
        assert len(world.key_engine.canaries) == 1
        assert (await ada.ask("GET", "/api/user/arming")).json()["armed"] is True


@pytest.mark.parametrize("code", ["key_can_withdraw", "key_cannot_trade", "hedge_mode", "multi_assets"])
async def test_a_key_with_a_problem_does_not_arm(code: str) -> None:
    world = World()
    world.key_engine.problems = [Problem(code=code, detail="mend it")]
    async with somebody(world) as ada:
        await ada.ask("PUT", "/api/user/api-key", KEY)
        await ada.enrol()
        reply = await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())
        assert (reply.status_code, reply.json()["code"]) == (409, code)
        assert world.store.users[ada.id].mode == "PAPER"


async def test_a_canary_that_dies_leaves_the_mode_on_paper() -> None:
    world = World()
    world.key_engine.canary_passes = False
    async with somebody(world) as ada:
        await ada.ask("PUT", "/api/user/api-key", KEY)
        await ada.enrol()
        reply = await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())
        assert (reply.status_code, reply.json()["code"]) == (409, "canary_not_passed")
        assert world.store.users[ada.id].mode == "PAPER"


async def test_an_engine_that_is_away_is_told_apart_from_a_no() -> None:
    world = World()
    async with somebody(world) as ada:
        await ada.ask("PUT", "/api/user/api-key", KEY)
        await ada.enrol()
        world.key_engine.away = True
        reply = await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())
        assert reply.status_code == 503


async def test_an_engine_without_a_seal_says_so_when_a_key_is_stored() -> None:
    world = World()
    async with somebody(world) as ada:
        world.sealer.away = True
        assert (await ada.ask("PUT", "/api/user/api-key", KEY)).status_code == 503
        assert ada.id not in world.vault.keys


async def test_raising_leverage_or_size_in_real_asks_for_a_code_lowering_does_not() -> None:
    async with somebody(World()) as ada:
        await armed(ada)
        for change in ({"leverage": 11}, {"fixed_order_size": "100.01"}):
            assert (await ada.ask("PATCH", "/api/settings", change)).json()["code"] == "totp_required"
        assert (await ada.ask("PATCH", "/api/settings", {"leverage": 11}, ada.code())).status_code == 200
        assert (await ada.ask("PATCH", "/api/settings", {"leverage": 3, "fixed_order_size": "10"})).status_code == 200
        assert (await ada.ask("PATCH", "/api/settings", {"mode": "PAPER"})).json()["mode"] == "PAPER"
        assert (await ada.ask("PATCH", "/api/settings", {"leverage": 50})).status_code == 200


async def test_keys_are_changed_and_deleted_only_with_a_code() -> None:
    async with somebody(World()) as ada:
        await armed(ada)
        assert (await ada.ask("PUT", "/api/user/api-key", KEY)).json()["code"] == "totp_required"
        assert (await ada.ask("DELETE", "/api/user/api-key")).json()["code"] == "totp_required"
        assert (await ada.ask("DELETE", "/api/user/api-key", code=ada.code())).status_code == 204
        assert (await ada.ask("GET", "/api/user/arming")).json()["armed"] is False


async def test_a_changed_key_stops_real_entries_until_it_is_armed() -> None:
    async with somebody(World()) as ada:
        await armed(ada)
        await ada.ask("PUT", "/api/user/api-key", KEY, ada.code())
        told = (await ada.ask("GET", "/api/user/arming")).json()
        assert told["armed"] is False
        assert "changed" in told["refusal"]
        assert (await ada.ask("PATCH", "/api/settings", {"mode": "REAL"}, ada.code())).status_code == 200
        assert (await ada.ask("GET", "/api/user/arming")).json()["armed"] is True


async def test_while_something_is_at_the_exchange_its_key_stays() -> None:
    world = World()
    async with somebody(world) as ada:
        await ada.ask("PUT", "/api/user/api-key", KEY)
        world.vault.held[ada.id] = ["SOLUSDT"]
        assert (await ada.ask("DELETE", "/api/user/api-key")).json()["code"] == "real_in_use"
        assert (await ada.ask("PUT", "/api/user/api-key", KEY)).json()["code"] == "real_in_use"
        world.key_engine.open_symbols = [holding("SOLUSDT")]
        assert (await ada.ask("PUT", "/api/user/api-key", KEY)).status_code == 204


async def test_one_admin_claims_the_owners_key_and_nobody_else_can() -> None:
    world = World()
    async with somebody(world, "ADMIN") as ada, somebody(world) as mallory:
        assert (await mallory.ask("POST", "/api/user/api-key/claim")).status_code == 403
        assert (await ada.ask("POST", "/api/user/api-key/claim")).status_code == 204
        second = await world.person("grace", "ADMIN")
        grace = Person(world, ada.http, second, (await world.token(second))[0])
        refused = await grace.ask("POST", "/api/user/api-key/claim")
        assert (refused.status_code, refused.json()["code"]) == (409, "key_claimed")


async def test_a_code_is_good_for_one_use() -> None:
    async with somebody(World()) as ada:
        await ada.enrol()
        code = ada.code()
        assert (await ada.ask("PUT", "/api/user/api-key", KEY, code)).status_code == 204
        again = await ada.ask("PUT", "/api/user/api-key", KEY, code)
        assert (again.status_code, again.json()["code"]) == (403, "totp_wrong")


async def test_an_older_code_is_no_good_after_a_newer_one() -> None:
    async with somebody(World()) as ada:
        await ada.enrol()
        older, newer = ada.code(), ada.code()
        assert (await ada.ask("PUT", "/api/user/api-key", KEY, newer)).status_code == 204
        assert (await ada.ask("PUT", "/api/user/api-key", KEY, older)).status_code == 403


async def test_a_code_is_good_one_step_early_or_late_and_no_more() -> None:
    world = World()
    async with somebody(world) as ada:
        await ada.enrol()
        for steps, status in ((3, 403), (2, 403), (1, 204), (-2, 403)):
            world.clock.real += timedelta(minutes=3)
            code = pyotp.TOTP(ada.secret).at(world.clock.real + timedelta(seconds=30 * steps))
            world.throttle.failures.clear()
            assert (await ada.ask("PUT", "/api/user/api-key", KEY, code)).status_code == status, steps


async def test_a_recovery_code_is_good_once() -> None:
    async with somebody(World()) as ada:
        codes = await ada.enrol()
        assert (await ada.ask("PUT", "/api/user/api-key", KEY, codes[0].lower())).status_code == 204
        assert (await ada.ask("PUT", "/api/user/api-key", KEY, codes[0])).status_code == 403
        assert (await ada.ask("PUT", "/api/user/api-key", KEY, codes[1])).status_code == 204


async def test_wrong_codes_are_delayed_for_the_user_wherever_they_come_from() -> None:
    async with somebody(World()) as ada:
        await ada.enrol()
        for _ in range(3):
            assert (await ada.ask("DELETE", "/api/user/totp", code="000000")).json()["code"] == "totp_wrong"
        delayed = await ada.ask("DELETE", "/api/user/totp", code=ada.code())
        assert (delayed.status_code, delayed.json()["code"]) == (429, "too_many_attempts")


async def test_two_step_sign_in_stays_while_real_needs_it() -> None:
    async with somebody(World()) as ada:
        await armed(ada)
        assert (await ada.ask("DELETE", "/api/user/totp", code=ada.code())).json()["code"] == "real_needs_totp"
        await ada.ask("PATCH", "/api/settings", {"mode": "PAPER"})
        assert (await ada.ask("DELETE", "/api/user/totp", code=ada.code())).status_code == 204


async def test_a_second_factor_in_use_is_not_replaced_by_a_new_one() -> None:
    async with somebody(World()) as ada:
        await ada.enrol()
        for code in (None, "000000", ada.code()):
            refused = await ada.ask("POST", "/api/user/totp", code=code)
            assert (refused.status_code, refused.json()["code"]) == (409, "totp_enrolled")
            assert "secret" not in refused.json()
        begun = await ada.ask("POST", "/api/user/totp/confirm", {"code": ada.code()})
        assert begun.json()["code"] == "totp_not_begun"
        assert (await ada.ask("DELETE", "/api/user/totp", code=ada.code())).status_code == 204


async def test_the_secret_rests_encrypted_and_opens_for_nobody_else() -> None:
    world = World()
    async with somebody(world) as ada:
        await ada.enrol()
        row = world.vault.factors[ada.id]
        assert ada.secret not in row.secret
        mallory = await world.person("mallory")
        assert world.factors._key.unlock(mallory, row.secret) is None
        assert world.factors._key.unlock(ada.id, row.secret) == ada.secret


def holding(symbol: str) -> VenuePosition:
    return VenuePosition(
        symbol=symbol, side=Side.LONG, quantity=d(1), entry_price=d(1), mark_price=None, leverage=d(1), margin=d(1),
        unrealized_pnl=None, liquidation_price=None,
    )  # fmt: skip


async def test_a_login_takes_a_code_where_two_step_sign_in_is_on() -> None:
    world, who = World(), {"username": "grace", "password": "correct horse battery"}
    async with client_of(world) as http:
        user_id = UUID((await http.post("/api/auth/register", json=who)).json()["id"])
        token = (await http.post("/api/auth/login", json=who)).json()["access_token"]
        grace = Person(world, http, user_id, token)
        await grace.enrol()
        without = await http.post("/api/auth/login", json=who)
        assert (without.status_code, without.json()["code"]) == (403, "totp_required")
        wrong = await http.post("/api/auth/login", json=who | {"totp": "000000"})
        assert (wrong.status_code, wrong.json()["code"]) == (403, "totp_wrong")
        assert [who for who, _ in world.store.refusals] == [user_id]
        stranger = await http.post("/api/auth/login", json=who | {"password": "not the password", "totp": grace.code()})
        assert (stranger.status_code, stranger.json()["code"]) == (401, "wrong_credentials")
        assert (await http.post("/api/auth/login", json=who | {"totp": grace.code()})).status_code == 200


async def test_switching_two_step_sign_in_on_ends_the_logins_that_were_begun_without_it() -> None:
    world = World()
    async with somebody(world) as ada:
        other, other_login = await world.token(ada.id)
        stranger, _ = await world.token(await world.person("mallory"))
        await ada.enrol()
        assert (await ada.ask("GET", "/api/user/me")).status_code == 200
        for token, status in ((other, 401), (stranger, 200)):
            assert (await ada.http.get("/api/user/me", headers={"Authorization": f"Bearer {token}"})).status_code == status
        assert ("signed_out", {"login_id": str(other_login)}) in [(event, data) for _, event, data in world.bus.told]


async def test_all_other_logins_end_at_a_word_and_this_one_stays() -> None:
    world = World()
    async with somebody(world) as ada:
        others = [await world.token(ada.id) for _ in range(3)]
        assert (await ada.ask("POST", "/api/auth/logout-others")).status_code == 204
        for token, _ in others:
            assert (await ada.http.get("/api/user/me", headers={"Authorization": f"Bearer {token}"})).status_code == 401
        assert (await ada.ask("GET", "/api/user/me")).status_code == 200


async def test_codes_are_not_free_to_guess_while_redis_is_away() -> None:
    world = World()
    world.throttle.wait_seconds = world.throttle.spend = nothing_to_wait  # type: ignore[method-assign, assignment]
    async with somebody(world) as ada:
        await ada.enrol()
        tried = [(await ada.ask("DELETE", "/api/user/totp", code=f"{guess:06}")).status_code for guess in range(40)]
        assert tried.count(403) <= CODES_A_MINUTE
        assert tried[-20:] == [429] * 20
        world.clock.real += timedelta(minutes=2)
        assert (await ada.ask("DELETE", "/api/user/totp", code=ada.code())).status_code == 204


async def nothing_to_wait(*_: object) -> float:
    return 0.0
