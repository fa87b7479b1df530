"""REST: register, log in, renew, log out."""

from typing import Any

from litestar import Request, Response, Router, post
from litestar.params import JSONBody

from orchestrator.web.auth import LoggedIn
from orchestrator.web.bodies import LoginBody, RegisterBody
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.replies import Access, Registered
from orchestrator.web.security import address_of, end_login, end_others, session_cookies

SCHEME = "Bearer"


@post("/register", opt={"open": True}, summary="Register")
async def register(request: Request[Any, Any, Any], data: JSONBody[RegisterBody]) -> Registered:
    """A new user, on paper, auto-trading off."""
    user = await doors_of(request).auth.register(data.username, data.password, address_of(request))
    return Registered(id=user.id, username=user.username, role=user.role, mode="PAPER")


@post("/login", opt={"open": True}, status_code=200, summary="Log in")
async def log_in(request: Request[Any, Any, Any], data: JSONBody[LoginBody]) -> Response[Access]:
    """An access token, and the cookie that carries the same."""
    doors = doors_of(request)
    logged_in = await doors.auth.log_in(data.username, data.password, address_of(request), data.totp)
    return Response(_access(logged_in), cookies=session_cookies(doors, logged_in))


@post("/renew", status_code=200, summary="Renew the access token")
async def renew(request: Asked) -> Access:
    """A fresh token of the same login, for clients that use the header; never past the login's end."""
    return _access(await doors_of(request).auth.renew(request.user))


@post("/logout", status_code=204, summary="Log out")
async def log_out(request: Asked) -> Response[None]:
    """End the login everywhere: its tokens, its cookie, its live streams."""
    doors = doors_of(request)
    await doors.auth.log_out(request.user)
    await doors.bus.publish(request.user.id, "signed_out", {"login_id": str(request.user.login_id)})
    response: Response[None] = Response(None, status_code=204)
    end_login(request, response)
    return response


@post("/logout-others", status_code=204, summary="Log out everywhere else")
async def log_out_others(request: Asked) -> None:
    """End every other login of the user everywhere; this one stays."""
    await end_others(doors_of(request), request.user)


def _access(logged_in: LoggedIn) -> Access:
    return Access(
        access_token=logged_in.token,
        token_type=SCHEME,
        expires_in=logged_in.expires_in,
        csrf_token=logged_in.viewer.csrf,
    )


auth_router = Router("/api/auth", route_handlers=[register, log_in, renew, log_out, log_out_others], tags=["auth"])
