"""Runs ccxt's suite: prints a line a part and each failure; exits 0 only without any."""

import asyncio
import sys

from tests.ccxt_suite.live import PARTS, suite, unpacked


def main() -> int:
    """Run the parts that are named, or all."""
    folder = unpacked()
    if folder is None:
        print("set CCXT_SOURCE to the folder of ccxt's unpacked source package")
        return 2
    outcomes = asyncio.run(suite(folder, {part: PARTS[part] for part in sys.argv[1:] or PARTS}))
    for outcome in outcomes:
        print(f"{outcome.part:16} {len(outcome.tested):3} tested  {len(outcome.failures):3} failures")
        for line in outcome.failures:
            print(f"    {line[:400]}")
    return 1 if any(outcome.failures for outcome in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
