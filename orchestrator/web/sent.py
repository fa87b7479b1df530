"""A form's token is spent before what it asks for is done, and given back when a source did not answer: then nothing was told to be done."""

from typing import Any

from litestar.types import Scope

from orchestrator.errors import OrchestratorError
from orchestrator.web.doors import Asked, Doors

_SPENT = "nt_spent_form"


def spend_form(request: Asked, token: str) -> None:
    """Note which token this request spends."""
    request.scope["state"][_SPENT] = token


async def give_form_back(error: Exception, scope: Scope) -> None:
    """After a request failed on its source, let its form be sent again."""
    token = scope.get("state", {}).get(_SPENT)
    viewer: Any = scope.get("user")
    if token is None or viewer is None or not isinstance(error, OrchestratorError):
        return
    doors: Doors = scope["litestar_app"].state.doors
    await doors.forms.forget(viewer.id, token)
