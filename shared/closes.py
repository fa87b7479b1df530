"""What the feed tells over Redis as soon as the figures of a close are whole, so that a scan need not wait for a clock.

It is a hint that may be lost, late or told twice: whoever hears it still looks at the clock, and a close is scanned once whoever asks for it.
"""

from datetime import datetime
from typing import Annotated, Final

import msgspec

CHANNEL: Final = "neurotrade:closes"


class CloseTold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The end of the newest closed 15m candle, market time, of which nearly every symbol's figures are in Redis."""

    candle_close: Annotated[datetime, msgspec.Meta(tz=True)]
