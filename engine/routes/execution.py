"""The doors of /execute; owned by the execution side. Handlers are listed in HANDLERS and mounted by `engine.app`."""

from litestar.handlers import HTTPRouteHandler

HANDLERS: list[HTTPRouteHandler] = []
