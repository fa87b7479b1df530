"""How the control surface reads a body and says no: every path of it the same way, in the exchange's own form."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from deploy.sandbox.core.errors import Rejected
from deploy.sandbox.rest import reply

type Handler = Callable[[web.Request], Awaitable[web.Response]]


async def body_of[T](request: web.Request, kind: type[T]) -> T:
    """What a path wants, out of the body; an absent body says nothing.

    Raises:
        Rejected: -1100; it is no JSON, or not of this kind.
    """
    try:
        return msgspec.json.decode(await request.read() or b"{}", type=kind)
    except msgspec.DecodeError as error:
        raise unfit(error) from error


def unfit(error: Exception) -> Rejected:
    """A body that does not fit, in the words of whoever found out."""
    return Rejected(-1100, str(error))


def answered(handler: Handler) -> Handler:
    """The same path, answering a refusal with its code."""

    async def answer(request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Rejected as refusal:
            return reply({"code": refusal.code, "msg": refusal.message}, refusal.status)

    return answer
