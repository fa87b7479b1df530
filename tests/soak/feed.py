"""The feed process with one thing changed: connections are replaced after SOAK_LIFETIME seconds, as if a day had passed."""

import os
from functools import partial

import msgspec

from engine import feed
from engine.kline_streams import KLINE_PATIENCE
from engine.sockets import PATIENCE

LIFETIME = "SOAK_LIFETIME"


def main() -> None:
    """Feeds, or stands by, until SIGTERM."""
    seconds = float(os.environ[LIFETIME])
    for name, patience in (("listen", PATIENCE), ("listen_klines", KLINE_PATIENCE), ("listen_trades", PATIENCE)):
        shortened = msgspec.structs.replace(patience, lifetime=seconds)
        setattr(feed, name, partial(getattr(feed, name), patience=shortened))
    feed.main()


if __name__ == "__main__":
    main()
