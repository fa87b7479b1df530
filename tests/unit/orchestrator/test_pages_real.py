"""The settings page's forms on the way to real money, as a browser without scripts sends them."""

import re

import pyotp

from tests.unit.orchestrator.test_web_real import KEY, Person, armed, somebody
from tests.unit.orchestrator.web_fakes import World


async def send(ada: Person, path: str, **fields: str) -> tuple[int, str]:
    """A form with the cookie and its token."""
    token = ada.headers["Authorization"].removeprefix("Bearer ")
    csrf = ada.world.tokens.csrf(ada.world.tokens.read(token, ada.world.clock.wall()).login_id)
    headers = {"Accept": "text/html", "Cookie": f"nt_session={token}"}
    reply = await ada.http.post(path, data={"csrf_token": csrf, **fields}, headers=headers)
    return reply.status_code, reply.text


async def settings_page(ada: Person) -> str:
    token = ada.headers["Authorization"].removeprefix("Bearer ")
    return (await ada.http.get("/dashboard/settings", headers={"Accept": "text/html", "Cookie": f"nt_session={token}"})).text


async def test_a_key_is_stored_by_form_and_never_shown_again() -> None:
    async with somebody(World()) as ada:
        assert (await send(ada, "/dashboard/settings/key", **KEY))[0] == 303
        assert KEY["api_key"] not in (shown := await settings_page(ada))
        assert "A key is stored" in shown
        status, text = await send(ada, "/dashboard/settings/key", api_key="short", api_secret=KEY["api_secret"])
        assert status == 400
        assert KEY["api_secret"] not in text


async def test_a_second_factor_is_scanned_confirmed_and_its_recovery_codes_shown_once() -> None:
    world = World()
    async with somebody(world) as ada:
        assert (await send(ada, "/dashboard/settings/totp"))[0] == 303
        shown = await settings_page(ada)
        assert "<svg" in shown
        assert " style=" not in shown
        secret = re.search(r'class="secret">(\w+)<', shown)
        assert secret is not None
        status, text = await send(ada, "/dashboard/settings/totp/confirm", code="000000")
        assert status == 403
        status, text = await send(ada, "/dashboard/settings/totp/confirm", code=pyotp.TOTP(secret[1]).at(world.clock.real))
        assert status == 200
        assert len(re.findall(r"<li>[A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}</li>", text)) == 10
        assert not re.findall(r"<li>[A-Z2-7]{4}-", await settings_page(ada))


async def test_the_page_says_what_real_needs_and_arms_it_with_a_code() -> None:
    world = World()
    async with somebody(world) as ada:
        status, text = await send(ada, "/dashboard/settings/mode", mode="REAL")
        assert status == 409
        assert "Store an API key of your own first." in text
        await ada.ask("PUT", "/api/user/api-key", KEY)
        await ada.enrol()
        assert (await send(ada, "/dashboard/settings/mode", mode="REAL"))[0] == 403
        assert (await send(ada, "/dashboard/settings/mode", mode="REAL", totp=ada.code()))[0] == 303
        assert world.store.users[ada.id].mode == "REAL"
        assert (await send(ada, "/dashboard/settings/mode", mode="PAPER"))[0] == 303
        assert world.store.users[ada.id].mode == "PAPER"


async def test_raising_real_size_is_confirmed_on_a_page_of_its_own_with_a_code() -> None:
    world = World()
    async with somebody(world) as ada:
        await armed(ada)
        limits = {"leverage": "10", "max_positions": "10", "max_exposure": "20000", "max_daily_loss": "500"}
        status, text = await send(ada, "/dashboard/settings", fixed_order_size="500", **limits)
        assert status == 200
        assert "Raise what each REAL trade puts up?" in text
        assert re.search(r"\$1,000\.00.*to.*\$5,000\.00", text, re.DOTALL)
        status, text = await send(ada, "/dashboard/settings", fixed_order_size="500", totp="000000", **limits)
        assert status == 403
        assert "Raise what each REAL trade puts up?" in text
        assert 'value="500"' in text
        assert world.store.users[ada.id].fixed_order_size == 100
        assert (await send(ada, "/dashboard/settings", fixed_order_size="500", totp=ada.code(), **limits))[0] == 303
        assert world.store.users[ada.id].fixed_order_size == 500
