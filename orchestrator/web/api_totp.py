"""REST: two-step sign-in."""

from litestar import Router, delete, post
from litestar.params import JSONBody

from orchestrator.web.arming import begin_factor, code_of, end_factor
from orchestrator.web.bodies import CodeBody
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.problems import unauthorized
from orchestrator.web.replies import RecoveryCodes, TotpBegun


@post("/api/user/totp", status_code=200, summary="Begin two-step sign-in")
async def begin_totp(request: Asked) -> TotpBegun:
    """A new secret for an authenticator; it counts once a code of it was confirmed."""
    begun = await doors_of(request).factors.begin(request.user.id, request.user.username)
    return TotpBegun(secret=begun.secret, otpauth_uri=begun.otpauth_uri)


@post("/api/user/totp/confirm", status_code=200, summary="Confirm two-step sign-in")
async def confirm_totp(request: Asked, data: JSONBody[CodeBody]) -> RecoveryCodes:
    """Switch it on with the first code; the recovery codes are shown this once, each is good for one use. Other logins end."""
    return RecoveryCodes(recovery_codes=await begin_factor(doors_of(request), request.user, data.code))


@delete("/api/user/totp", status_code=204, summary="End two-step sign-in")
async def end_totp(request: Asked) -> None:
    """Switch it off with a code; not while REAL needs it."""
    doors = doors_of(request)
    user = await doors.reads.user(request.user.id)
    if user is None:
        raise unauthorized("login_ended", "This login has ended. Please log in again.")
    await end_factor(doors, user, code_of(request))


totp_router = Router("/", route_handlers=[begin_totp, confirm_totp, end_totp], tags=["two-step sign-in"])
