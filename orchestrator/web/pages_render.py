"""From a template and its values to an answer: one environment, autoescape on, an undefined name is an error and not an empty page."""

import hashlib
import secrets
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import MediaType, Request, Response

from orchestrator.web import format as fmt
from orchestrator.web import pages_words as words
from orchestrator.web import whale_words
from orchestrator.web.auth import Viewer
from shared.problem import Problem

HERE = Path(__file__).parent
STATIC = HERE / "static"
STATIC_PATH = "/static"
THEME_COOKIE = "nt_theme"
PALETTE_COOKIE = "nt_palette"
THEMES = ("system", "light", "dark")
PALETTES = ("default", "blue", "redup")

TABS = (
    ("overview", "Overview", "/dashboard"),
    ("positions", "Positions", "/dashboard/positions"),
    ("signals", "Signals", "/dashboard/signals"),
    ("market", "Market", "/dashboard/market"),
    ("history", "History", "/dashboard/history"),
    ("ledger", "Ledger", "/dashboard/ledger"),
    ("settings", "Settings", "/dashboard/settings"),
)
ADMIN_TAB = ("admin", "Admin", "/dashboard/admin")

_HEADINGS = {
    400: "That could not be accepted",
    401: "Please log in",
    403: "Not allowed",
    404: "There is no such page",
    405: "That cannot be done here",
    409: "It stands differently now",
    429: "Too many attempts",
    503: "A part does not answer",
}


@cache
def asset(name: str) -> str:
    """The address of a static file with the hash of its content, so that it may be kept for ever."""
    return f"{STATIC_PATH}/{fingerprint(name)}/{name}"


@cache
def fingerprint(name: str) -> str:
    """The hash in a static file's address."""
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        money=fmt.money,
        pnl=fmt.pnl,
        percent=fmt.percent,
        percent_plain=lambda value: fmt.percent(value).lstrip("+"),
        price=fmt.price,
        quantity=fmt.quantity,
        share=fmt.share,
        usd=fmt.usd,
        leverage=fmt.leverage,
        figure=fmt.figure,
        any_figure=words.any_figure,
        sign=fmt.sign,
        age=fmt.age,
        seconds=fmt.seconds,
        clock_time=fmt.clock_time,
        day_time=fmt.day_time,
        iso=fmt.iso,
        label=words.label,
        sentence=words.sentence,
        decision=words.decision,
        refusal=lambda key: words.word(words.REFUSALS, key),
        close_reason=lambda key: words.word(words.CLOSE_REASONS, key),
        ledger_kind=lambda key: words.word(words.LEDGER_KINDS, key),
        status_word=lambda key: words.word(words.STATUSES, key),
        result=words.result,
        whose=lambda symbol: words.WHOLE.get(symbol, symbol),
        outcome=lambda key: words.word(words.OUTCOMES, key),
        trend=lambda key: words.word(words.TRENDS, key),
        whale=lambda key: words.word(words.WHALES, key),
        pressure=lambda key: words.word(words.PRESSURES, key),
        cascade=whale_words.cascade_words,
        whale_figures=whale_words.whale_figures,
    )
    made.globals.update(asset=asset, form_token=form_token, unknown=fmt.UNKNOWN, mid_dot="\u00b7")
    return made


def form_token() -> str:
    """A name for one sending of one form: what is sent under it twice is done once."""
    return secrets.token_urlsafe(16)


_TEMPLATES = _environment()


def look(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Theme and palette from their cookies; anything else is the default."""
    theme, palette = request.cookies.get(THEME_COOKIE, ""), request.cookies.get(PALETTE_COOKIE, "")
    return {
        "theme": theme if theme in THEMES else THEMES[0],
        "palette": palette if palette in PALETTES else PALETTES[0],
    }


def tabs_for(role: str) -> list[dict[str, str]]:
    """The sections that somebody of this role finds in the menu."""
    shown = (*TABS, ADMIN_TAB) if role == "ADMIN" else TABS
    return [{"name": name, "label": text, "href": href} for name, text, href in shown]


def page(template: str, context: dict[str, Any], status: int = 200) -> Response[str]:
    """A page or a fragment of one."""
    return Response(_TEMPLATES.get_template(template).render(context), media_type=MediaType.HTML, status_code=status)


def notice_of(name: str | None) -> dict[str, str] | None:
    """The sentence that a redirect asks for by name."""
    found = words.NOTICES.get(name or "")
    return None if found is None else {"tone": found[0], "text": found[1]}


def error_page(request: Request[Any, Any, Any], status: int, problem: Problem) -> Response[Any]:
    """A problem as a page; somebody who is not logged in is led to the log-in page."""
    if status == 401 and request.method == "GET":
        return _log_in_first(request)
    heading = _HEADINGS.get(status, "Something failed here")
    viewer = request.scope.get("user")
    context = {"mode": viewer.mode if isinstance(viewer, Viewer) else "PAPER", "known": isinstance(viewer, Viewer)}
    return page("error.html", {**look(request), **context, "problem": problem, "heading": heading}, status)


def _log_in_first(request: Request[Any, Any, Any]) -> Response[str]:
    """The log-in page; but a link from elsewhere comes without its cookies, which are for same-site requests: it is asked for again."""
    path = request.url.path
    if request.headers.get("hx-request"):
        return Response("", status_code=204, headers={"HX-Redirect": "/login?say=login"}, media_type=MediaType.HTML)
    if request.headers.get("sec-fetch-site") == "cross-site":
        return page("again.html", {**look(request), "mode": "PAPER", "path": path})
    target = path if path.startswith("/dashboard") and "/_/" not in path else ""
    return Response("", status_code=303, headers={"Location": f"/login?say=login&next={target}"}, media_type=MediaType.HTML)
