"""Where ccxt is imported and pointed: it signs, sends and names transport errors; whatever it would do beyond that is switched off.

Importing it takes seconds, because its package imports every exchange it knows; so it is imported in a thread, once, when the first real
account is opened or `load` is asked for before.
"""

import asyncio
import functools
import logging
from typing import Any, Final

PATHS: Final = {
    "fapiPublic": "/fapi/v1",
    "fapiPublicV2": "/fapi/v2",
    "fapiPublicV3": "/fapi/v3",
    "fapiPrivate": "/fapi/v1",
    "fapiPrivateV2": "/fapi/v2",
    "fapiPrivateV3": "/fapi/v3",
    "fapiData": "/futures/data",
}

RECEIVE_WINDOW_MS: Final = 5_000
"""A request that is older than this when it arrives is refused: what was sent and not seen by then, plus the clocks' difference of at most
a second, can never be carried out any more."""

TIMEOUT_MS: Final = 4_000
"""Less than the receive window: who gives up asks what became of it while the look-up can still be early."""


async def load() -> None:
    """Imports ccxt without stopping the loop; at once where that was done."""
    if not _vendor.cache_info().currsize:
        await asyncio.to_thread(_vendor)


@functools.cache
def _vendor() -> Any:
    from ccxt.async_support.binanceusdm import binanceusdm

    logging.getLogger("ccxt").setLevel(logging.WARNING)  # its debug records hold the key header
    return binanceusdm


def open_client(api_key: str, api_secret: str, rest_url: str, spot_url: str) -> Any:
    """The client for one key pair, without a session; `load` first, or the loop stops for the import.

    Args:
        api_key: Of the account.
        api_secret: Of the account.
        rest_url: The futures API. Every address that ccxt knows and we do not use is pointed there too, so that no stray call leaves.
        spot_url: The spot API, which alone knows what a key may do.
    """
    made = _vendor()(
        {
            "apiKey": api_key,
            "secret": api_secret,
            "enableRateLimit": False,
            "timeout": TIMEOUT_MS,
            "enableLastHttpResponse": False,
            "enableLastJsonResponse": False,
            "enableLastResponseHeaders": False,
            "options": {
                "fetchCurrencies": False,
                "recvWindow": RECEIVE_WINDOW_MS,
                "maxRetriesOnFailure": 0,
                "adjustForTimeDifference": False,
                "timeDifference": 0,
            },
        }
    )
    made.urls["api"] = dict.fromkeys(made.urls["api"], rest_url) | {name: rest_url + path for name, path in PATHS.items()}
    made.urls["api"]["sapi"] = f"{spot_url}/sapi/v1"
    made.exceptions["exact"] = {**made.exceptions["exact"], **made.exceptions["linear"]["exact"]}
    made.own_session = False
    made.ssl_context = False  # the session's connector speaks TLS
    return made


def error_class() -> type[Exception]:
    """The root of every error that ccxt raises."""
    from ccxt.base.errors import BaseError

    found: type[Exception] = BaseError
    return found
