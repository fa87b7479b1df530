"""What every page of somebody who is logged in needs, and how forms come in and lead on."""

import hashlib
from typing import Any
from urllib.parse import quote
from uuid import UUID

from litestar import MediaType, Response

from orchestrator.ports import ApprovalRow, UserRow
from orchestrator.web.doors import Asked, doors_of
from orchestrator.web.pages_render import look, notice_of, tabs_for
from orchestrator.web.problems import not_found, unauthorized
from orchestrator.web.sent import spend_form
from shared.enums import Mode

PAGE_SIZE = 50
_LONGEST_FIELD = 500


async def first_time(request: Asked, form: dict[str, str]) -> bool:
    """Whether this form was not sent before; a form without a token cannot tell, and is judged by what it asks for alone."""
    token = form.get("form_token", "")
    if not token or not await doors_of(request).forms.first(request.user.id, token):
        return not token
    spend_form(request, token)
    return True


async def form_of(request: Asked) -> dict[str, str]:
    """The text fields of a form, trimmed; files and overlong values are dropped."""
    data = await request.form()
    return {key: value.strip() for key, value in data.items() if isinstance(value, str) and len(value) <= _LONGEST_FIELD}


def see(path: str, say: str = "") -> Response[str]:
    """Leads on with a GET, so that reloading sends nothing again; `say` names a sentence for the page there."""
    target = f"{path}{'&' if '?' in path else '?'}say={quote(say)}" if say else path
    return Response("", status_code=303, headers={"Location": target}, media_type=MediaType.HTML)


def offset_of(request: Asked) -> int:
    """How many rows to skip, from the address; anything odd is none."""
    text = str(request.query_params.get("offset", "0"))
    return min(int(text), 1_000_000) if text.isascii() and text.isdigit() else 0


def pager(offset: int, shown: int, size: int = PAGE_SIZE) -> dict[str, int | None]:
    """Where the pages before and after this one begin."""
    return {"newer": max(0, offset - size) if offset else None, "older": offset + size if shown == size else None}


def id_of(text: str) -> UUID:
    """An id from an address.

    Raises:
        ProblemError: 404; it is not an id, so nothing is there.
    """
    try:
        return UUID(text)
    except ValueError:
        raise not_found("This page") from None


async def user_of(request: Asked) -> UserRow:
    """The row of whoever asks.

    Raises:
        ProblemError: 401; the user is gone.
    """
    user = await doors_of(request).reads.user(request.user.id)
    if user is None:
        raise unauthorized("unauthorized", "Please log in.")
    return user


async def frame(request: Asked, active: str) -> dict[str, Any]:
    """Viewer, user, mode, menu, approvals that wait, look, tokens and the clock, for any page or section of the dashboard."""
    doors, viewer = doors_of(request), request.user
    user = await user_of(request)
    wall = doors.clock.wall()
    approvals: list[ApprovalRow] = await doors.reads.approvals(viewer.id, wall)
    return {
        **look(request),
        "viewer": viewer,
        "user": user,
        "mode": user.mode,
        "dry_here": user.mode == Mode.REAL and doors.arm.dry_run,
        "csrf": viewer.csrf,
        "tabs": tabs_for(viewer.role),
        "active": active,
        "approvals": approvals,
        "approvals_waiting": len(approvals),
        "live_name": "live-" + hashlib.sha256(viewer.login_id.bytes).hexdigest()[:16],
        "rev": doors.hub.rev(viewer.id),
        "wall": wall,
        "now": doors.clock.now(),
        "notice": notice_of(request.query_params.get("say")),
        "errors": {},
    }
