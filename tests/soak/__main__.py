"""`python -m tests.soak`: a feed, its standby and a reader over a whole market that runs fast, as a table; exits 0 only when all was sound."""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.conftest import DATA
from tests.soak.market import RECORDED, RECORDED_HOURS, recorded_market, walked_market
from tests.soak.soak import DAY_SECONDS, Plan, Soaked, run_soak


def main() -> int:
    """Soaks; 1 when anything was not sound."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30, help="wall time")
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--speed", type=float, default=120, help="market seconds a second")
    parser.add_argument("--walks", action="store_true", help="random walks instead of the recorded market")
    parser.add_argument("--json", type=Path, help="write what it came to here")
    options = parser.parse_args()
    if options.minutes * options.speed / 60 > RECORDED_HOURS:
        parser.error(f"the market ends after {RECORDED_HOURS:g} hours")
    recorded = not options.walks and all((DATA / name).exists() for name in RECORDED)
    with tempfile.TemporaryDirectory(prefix="nt-soak-") as name:
        folder = Path(name)
        if recorded:
            _tell(f"the recorded market of {DATA}, {options.symbols} symbols")
            sandbox = recorded_market(folder, DATA, options.symbols)
        else:
            absent = "" if options.walks else f": there is no recorded market in {DATA} (set NEUROTRADE_DATA)"
            _tell(f"{options.symbols} random walks{absent}")
            sandbox = walked_market(folder, options.symbols)
        soaked = run_soak(folder, sandbox, plan_of(options.minutes * 60, options.speed), _tell)
    _tell(table(soaked))
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(soaked)) + b"\n")
    return 1 if soaked.wrong else 0


def plan_of(seconds: float, speed: float) -> Plan:
    """What is done how often in a soak of some length: faults ten times, a day's connections four times where days are too long."""
    every = min(150.0, seconds / 10)
    return Plan(
        seconds=seconds,
        speed=speed,
        faults_every=every,
        faults_last=min(20.0, every / 2),
        lifetime=min(DAY_SECONDS / speed, seconds / 4),
        drift_every=min(20.0, seconds / 10),
        rss_every=min(1.0, seconds / 100),
    )


def table(soaked: Soaked) -> str:
    """Figures to read."""
    lines = [
        f"{soaked.seconds / 60:.1f} minutes, {soaked.market_hours:.1f} h of the market, {soaked.universe} symbols",
        *(
            f"memory of {one.process}: {one.median / 2**20:.1f} MB, {one.growth / 2**20:+.2f} MB after the warm-up,"
            f" {one.hourly / 2**20:+.1f} MB an hour, {'flat' if one.flat else 'NOT FLAT'}"
            for one in soaked.memory
        ),
        f"drift: {max((one.error for one in soaked.drift), default=0):.1e} at most in {len(soaked.drift)} comparisons,"
        f" up to {max((one.carried for one in soaked.drift), default=0)} candles of 15m carried; the last over"
        f" {soaked.drift[-1].symbols if soaked.drift else 0} symbols",
        f"injected: {soaked.fired}; {soaked.reconnects} reconnects, {soaked.rotations} connections replaced in time",
        f"scans: {soaked.scans}, {soaked.failed_scans} failed, {soaked.scan_p50_ms:.1f} ms p50;"
        f" {soaked.from_figures:.1%} of symbols by figures; {soaked.candidates} candidates, {soaked.signals} signals",
        f"stale decisions: {len(soaked.stale)}; overtaken by a close while the scan ran: {soaked.overtaken}",
        f"fallbacks: {soaked.fallbacks}",
        *(f"WRONG: {said}" for said in soaked.wrong),
        "sound" if not soaked.wrong else "not sound",
    ]
    return "\n".join(lines)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
