"""Runs ccxt's suite: prints a line a part and each failure; exits 0 only without any. Fetches its source where CCXT_SOURCE names none."""

import asyncio
import signal
import sys
import time

from tests.ccxt_suite.live import PARTS, suite, unpacked
from tests.ccxt_suite.source import fetched


def main() -> int:
    """Run the parts that are named, or all."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # Whoever ends it finds the folder as it was.
    folder = unpacked() or fetched()
    failures = 0
    for part in sys.argv[1:] or PARTS:
        began = time.monotonic()
        (outcome,) = asyncio.run(suite(folder, {part: PARTS[part]}))
        took = time.monotonic() - began
        print(f"{part:16} {len(outcome.tested):3} tested  {len(outcome.failures):3} failures  {took:5.1f} s", flush=True)
        for line in outcome.failures:
            print(f"    {line[:400]}")
        failures += len(outcome.failures)
    print(f"TEST_FAILURE: {failures}")
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
