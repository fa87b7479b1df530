"""The pages' routes in one place, and the static files beside them. Pages decide nothing: they read, and hand forms to the desk."""

from pathlib import PurePosixPath

from litestar import Response, Router, get
from litestar.params import FromPath

from orchestrator.web import pages_account as account
from orchestrator.web import pages_actions as actions
from orchestrator.web import pages_overview as overview
from orchestrator.web import pages_real as real
from orchestrator.web import pages_sections as sections
from orchestrator.web.pages_render import STATIC, STATIC_PATH, error_page, fingerprint
from orchestrator.web.problems import not_found

_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FILES = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in sorted(STATIC.rglob("*")) if path.suffix in _KINDS}


@get(STATIC_PATH + "/{digest:str}/{name:path}", include_in_schema=False, opt={"open": True}, sync_to_thread=False)
def static_file(digest: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """A static file under the hash of its content; any other hash is not there.

    Raises:
        ProblemError: 404.
    """
    name = str(name).lstrip("/")
    if name not in _FILES or fingerprint(name) != digest:
        raise not_found("This file")
    headers = {"Cache-Control": "public, max-age=31536000, immutable"}
    return Response(_FILES[name], media_type=_KINDS[PurePosixPath(name).suffix], headers=headers)


pages_router = Router(
    path="/",
    route_handlers=[
        static_file,
        account.landing_page,
        account.login_page,
        account.login_form,
        account.register_page,
        account.register_form,
        account.logout_form,
        account.settings_page,
        account.settings_form,
        account.look_form,
        real.key_form,
        real.key_delete_form,
        real.key_claim_form,
        real.totp_form,
        real.totp_confirm_form,
        real.totp_end_form,
        real.mode_form,
        overview.overview_page,
        overview.positions_page,
        overview.signals_page,
        overview.signal_page,
        overview.market_page,
        overview.history_page,
        overview.ledger_page,
        overview.more_page,
        overview.unknown_page,
        actions.position_page,
        actions.close_page,
        actions.close_form,
        actions.protect_form,
        actions.approve_form,
        actions.decline_form,
        actions.auto_trading_form,
        actions.stop_page,
        actions.stop_form,
        actions.panic_page,
        actions.panic_form,
        actions.receipt_page,
        actions.admin_page,
        actions.scan_form,
        sections.section_page,
        sections.tick,
        sections.position_section,
        sections.life_section,
        sections.receipt_section,
    ],
)

__all__ = ["error_page", "pages_router"]
