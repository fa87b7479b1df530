"""GET /api/user/me as FastAPI and uvicorn would serve it: same row, driver, pool, authentication and bytes as ours."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from orchestrator.bootstrap import build
from orchestrator.settings import read_settings
from orchestrator.store.logins import SqlLogins
from orchestrator.store.reads import SqlReads
from orchestrator.store.throttle import RedisThrottle
from orchestrator.store.vault import SqlFactorVault
from orchestrator.web.auth import Auth, Tokens, Viewer
from orchestrator.web.factors import FactorKey, Factors
from orchestrator.web.problems import ProblemError
from shared.wire import plain


class Me(BaseModel):
    """The user who asks, as ours answers it."""

    id: str
    username: str
    role: str
    mode: str
    paper_balance: str
    real_balance: str | None
    real_balance_status: str
    real_balance_at: datetime | None
    fixed_order_size: str
    leverage: str
    auto_trade_enabled: bool
    has_api_key: bool
    totp_enabled: bool


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Opens the same object graph that our process opens."""
    settings = read_settings(os.environ)
    async with build(settings) as parts:
        app.state.reads = SqlReads(parts.database)
        logins, throttle = SqlLogins(parts.database), RedisThrottle(parts.redis)
        factors = Factors(SqlFactorVault(parts.database), throttle, parts.clock, FactorKey(settings.jwt_secret))
        app.state.auth = Auth(
            logins, throttle, parts.clock, Tokens(settings.jwt_secret), factors=factors, registration_open=False
        )
        yield


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer()


async def viewer(request: Request, given: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> Viewer:
    """Who asks, judged by the same code."""
    try:
        found: tuple[Viewer, object] = await request.app.state.auth.viewer(given.credentials, by_cookie=False)
    except ProblemError as error:
        raise HTTPException(401) from error
    return found[0]


@app.get("/api/user/me")
async def me(request: Request, asking: Annotated[Viewer, Depends(viewer)]) -> Me:
    """One row by primary key."""
    row = await request.app.state.reads.user(asking.id)
    return Me(
        id=str(row.id),
        username=row.username,
        role=row.role,
        mode=row.mode,
        paper_balance=_amount(row.paper_balance),
        real_balance=None,
        real_balance_status="none",
        real_balance_at=None,
        fixed_order_size=_amount(row.fixed_order_size),
        leverage=_amount(row.leverage),
        auto_trade_enabled=row.auto_trade_enabled,
        has_api_key=row.has_api_key,
        totp_enabled=row.totp_enabled,
    )


def _amount(value: object) -> str:
    text = plain(value)  # type: ignore[arg-type]  # the row's columns are Decimal
    return text.rstrip("0").rstrip(".") if "." in text else text
