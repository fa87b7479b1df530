"""REST: a user's exchange key, which goes in and never comes out, and how far they are on the way to real money."""

from litestar import Router, delete, get, post, put
from litestar.params import JSONBody

from orchestrator.web.arming import arming_of, claim_key, code_of, drop_key, store_key
from orchestrator.web.bodies import ApiKeyBody
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.replies import Arming


@put("/api/user/api-key", status_code=204, summary="Store an exchange key")
async def store_api_key(request: Asked, data: JSONBody[ApiKeyBody]) -> None:
    """Seal a key pair to the engine; it can never be read again. Real entries stop until the account is armed with it."""
    await store_key(doors_of(request), request.user.id, data.api_key, data.api_secret, code_of(request))


@delete("/api/user/api-key", status_code=204, summary="Delete the exchange key")
async def delete_api_key(request: Asked) -> None:
    """Forget the key pair, unless something at the exchange still needs it."""
    await drop_key(doors_of(request), request.user.id, code_of(request))


@post("/api/user/api-key/claim", status_code=204, opt={"role": "ADMIN"}, summary="Claim the owner's exchange key")
async def claim_api_key(request: Asked) -> None:
    """Take the key pair of the engine's environment; one admin may, and nobody else's orders can use it."""
    await claim_key(doors_of(request), request.user.id, code_of(request))


@get("/api/user/arming", summary="How far real money is")
async def read_arming(request: Asked) -> Arming:
    """What is missing before REAL, what the exchange says of the key, and how the last proof of protection ended."""
    arm = doors_of(request).arm
    return arming_of(await arm.readiness(request.user.id), dry_run=arm.dry_run)


keys_router = Router("/", route_handlers=[store_api_key, delete_api_key, claim_api_key, read_arming], tags=["real money"])
