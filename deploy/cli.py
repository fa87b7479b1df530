"""The `neurotrade` command. Each subcommand reads its options and hands over; nothing is decided here."""

import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from deploy import local
from deploy.errors import DeployError
from deploy.folder import Tape
from shared.wire import parse_plain

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Watches the futures market and trades it, on paper by default."
)
user = typer.Typer(no_args_is_help=True, help="The people who may log in.")
app.add_typer(user, name="user")
audit = typer.Typer(no_args_is_help=True, help="The record of who did what.")
app.add_typer(audit, name="audit")
keys = typer.Typer(no_args_is_help=True, help="The seal of users' exchange keys.")
app.add_typer(keys, name="keys")

Seed = Annotated[int | None, typer.Option(help="Seed of the synthetic market and of paths inside recorded candles.")]
Speed = Annotated[float | None, typer.Option(min=0.01, max=100_000, help="Market seconds a second; 450 is 15 minutes in 2 s.")]
Market = Annotated[
    Path | None,
    typer.Option(exists=True, help="Recorded 15m candles (Parquet) to replay, or the folder of an engine's recording."),
]
History = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Older 4h candles (Parquet).")]
Liquidations = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Recorded forced orders (JSON lines).")]
Start = Annotated[str | None, typer.Option(help="Where the tape begins, ISO 8601 UTC.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="The dashboard's port.")]
Data = Annotated[Path | None, typer.Option(help="Data folder; kept between runs.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget what the data folder keeps.")]


@app.command()
def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="End after so many seconds from the first scan.")] = None,
    report: Annotated[Path | None, typer.Option(dir_okay=False, help="Write the run's report here.")] = None,
    speed: Speed = None,
    seed: Seed = None,
    market: Market = None,
    history: History = None,
    liquidations: Liquidations = None,
    start: Start = None,
    port: Port = 8080,
    data: Data = None,
    fresh: Fresh = False,
    real: Annotated[bool, typer.Option("--real", help="Trade an account of the sandbox with the real executor.")] = False,
    faults: Annotated[str | None, typer.Option(help="With --real: let the exchange go wrong, `storm` or `calm`.")] = None,
) -> None:
    """Run everything embedded against the sandbox exchange, with a demo user that trades on paper, or with --real at the sandbox."""
    if faults is not None and not real:
        raise DeployError("--faults needs --real: on paper nothing is sent that could go wrong")
    options = local.Options(
        kind="demo",
        data=data or local.PROJECT / ".neurotrade" / ("demo-real" if real else "demo"),
        port=port,
        seconds=seconds,
        report=report,
        fresh=fresh,
        tape=_tape(seed, speed, market, history, liquidations, start),
        real=real,
        faults=faults,
    )
    raise typer.Exit(local.run(options))


@app.command()
def up(port: Port = 8080, data: Data = None, fresh: Fresh = False) -> None:
    """Run the same embedded stack against Binance itself, as .env says; on paper by default."""
    folder = data or local.PROJECT / ".neurotrade" / "up"
    raise typer.Exit(local.run(local.Options(kind="up", data=folder, port=port, fresh=fresh)))


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 9000,
    speed: Speed = None,
    seed: Seed = None,
    market: Market = None,
    history: History = None,
    liquidations: Liquidations = None,
    start: Start = None,
) -> None:
    """Run the sandbox exchange alone, for any client of the futures API."""
    tape = {"seed": seed, "speed": speed, "market": market, "history": history, "liquidations": liquidations, "start": start}
    options = [part for name, value in tape.items() if value is not None for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "deploy.sandbox", "--port", str(port), *options]
    os.execv(command[0], command)  # noqa: S606 - this process becomes the sandbox


@app.command()
def screen(
    market: Annotated[
        Path | None,
        typer.Option(exists=True, help="Recorded 15m candles (Parquet), or the folder of an engine's recording; else now."),
    ] = None,
    history: History = None,
    at: Annotated[str | None, typer.Option(help="Which moment of the recording, ISO 8601 UTC; its end by default.")] = None,
    preset: Annotated[str | None, typer.Option(help="Screener rules; SCREEN_PRESET's by default.")] = None,
    top: Annotated[int | None, typer.Option(min=1, max=60, help="Candidates kept; TOP_COINS_LIMIT by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON object.")] = False,
) -> None:
    """Print what the screener keeps, ranked, and why each near miss was dropped: at the exchange now, or in a recording."""
    from deploy import screen as screening  # here, because the engine behind it takes a second to load

    options = screening.ScreenOptions(
        market=market, history=history, moment=at, preset=preset, top=top, json=as_json, dotenv=local.PROJECT / ".env"
    )
    raise typer.Exit(screening.screen_from_terminal(options, os.environ))


@user.command("add")
def user_add(
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    admin: Annotated[bool, typer.Option("--admin", help="May see every user and the health of everything.")] = False,
    data: Data = None,
) -> None:
    """Add a person: to DATABASE_URL's database where it is set, else to the embedded one of `neurotrade up` (or --data)."""
    # A password never travels on the command line, where others on the machine could read it.
    asked = sys.stdin.isatty()
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if asked else sys.stdin.readline().rstrip("\n")
    from deploy import people  # here, because the store behind it takes a second to load

    folder = data or local.PROJECT / ".neurotrade" / "up"
    people.add_from_terminal(name, password, role=people.ADMIN if admin else "USER", data=folder, dotenv=local.PROJECT / ".env")
    print(f"{name} may log in{' as an admin' if admin else ''}")


@audit.command("verify")
def audit_verify(
    heads: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Keep the chains' heads here, and demand those it kept before.")
    ] = None,
    data: Data = None,
) -> None:
    """Walk the audit's hash chains; exits 1 and names the first broken row of each when a byte or a row is not as it was written."""
    from deploy import audit as auditing  # here, because the store behind it takes a second to load

    folder = data or local.PROJECT / ".neurotrade" / "up"
    raise typer.Exit(auditing.verify_from_terminal(folder, local.PROJECT / ".env", heads))


@keys.command("new")
def keys_new() -> None:
    """Print a new private key for SEAL_PRIVATE_KEYS. Keep it where only the engine reads it."""
    from engine.keys import new_private_key  # here, because the library behind it takes a moment to load

    print(new_private_key())


@keys.command("rotate")
def keys_rotate(data: Data = None) -> None:
    """Seal every user's exchange key anew: in the stopped embedded stack with a new private key, else through the engine as .env says."""
    from deploy import sealing  # here, because the store behind it takes a second to load

    folder = data or local.PROJECT / ".neurotrade" / "up"
    raise typer.Exit(sealing.rotate_from_terminal(folder, local.PROJECT / ".env"))


@app.command()
def smoke(
    margin: Annotated[str, typer.Option(help="USDT to put up.")] = "1",
    sandbox_keys: Annotated[bool, typer.Option("--sandbox", help="Against a sandbox exchange of its own.")] = False,
    symbol: Annotated[str | None, typer.Option(help="Which symbol; by default the most traded that the margin can hold.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before real orders are sent.")] = False,
) -> None:
    """Open and close one position with a small margin, as .env says: a dry run by default. Nothing is left open."""
    from deploy import smoke_run  # here, because the engine behind it takes a second to load

    options = smoke_run.SmokeOptions(margin=_usdt(margin), sandbox=sandbox_keys, symbol=symbol, dotenv=local.PROJECT / ".env")
    if smoke_run.trades_for_real(options, os.environ) and not yes:
        typer.confirm(f"This sends real orders to Binance with a margin of {margin} USDT. Go on?", abort=True)
    raise typer.Exit(smoke_run.run(options))


def main() -> None:
    """The command's entry; a failure that was foreseen is one readable line and exit code 1."""
    try:
        app()
    except DeployError as error:
        print(f"neurotrade: {error}", file=sys.stderr)
        sys.exit(1)


def _usdt(text: str) -> Decimal:
    try:
        amount = parse_plain(text)
    except ValueError as error:
        raise DeployError(f"a margin of {text} USDT: {error}") from error
    if amount <= 0:
        raise DeployError("the margin must be above zero")
    return amount


def _tape(
    seed: int | None, speed: float | None, market: Path | None, history: Path | None, liquidations: Path | None, start: str | None
) -> Tape:
    files = {
        name: str(path.resolve()) if path else None
        for name, path in (("market", market), ("history", history), ("liquidations", liquidations))
    }
    return Tape(seed=seed, speed=speed, start=start, **files)


if __name__ == "__main__":
    main()
