"""ccxt's source package, which alone holds its live suite: fetched once into .venv, its hash checked against requirements.lock.

`python -m tests.ccxt_suite.source` prints the folder that CCXT_SOURCE wants.
"""

import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
LOCK: Final = PROJECT / "requirements.lock"
KEPT: Final = PROJECT / ".venv" / "ccxt-source"
SUITE: Final = Path("python/ccxt/test/tests_init.py")


def fetched(kept: Path = KEPT) -> Path:
    """The unpacked source package of the version that is pinned; nothing is fetched where it is there already.

    Raises:
        LookupError: The lock pins no ccxt, or its source package has no suite.
        subprocess.CalledProcessError: pip found none of the pinned hash.
    """
    pin = pinned(LOCK.read_text(encoding="utf-8"))
    folder = kept / pin.split()[0].replace("==", "-")
    if not (folder / SUITE).exists():
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept) as place:
            unpack(_downloaded(pin, Path(place)), Path(place))
            (Path(place) / folder.name).rename(folder)
    return folder


def pinned(lock: str) -> str:
    """The lock's lines of ccxt, with its hashes.

    Raises:
        LookupError: There are none.
    """
    found = re.search(r"^ccxt==\S+(?: \\\n +--hash=sha256:[0-9a-f]{64})+$", lock, re.MULTILINE)
    if found is None:
        raise LookupError("requirements.lock pins no ccxt with hashes")
    return found[0]


def unpack(archive: Path, into: Path) -> None:
    """Unpack the source package.

    Raises:
        LookupError: It has no suite.
    """
    with tarfile.open(archive) as packed:
        packed.extractall(into, filter="data")
    if not (into / archive.name.removesuffix(".tar.gz") / SUITE).exists():
        raise LookupError(f"{archive.name} has no {SUITE}")


def _downloaded(pin: str, place: Path) -> Path:
    if importlib.util.find_spec("pip") is None:  # uv leaves it out
        subprocess.run([sys.executable, "-m", "ensurepip"], check=True, stdout=subprocess.DEVNULL)
    wanted = place / "ccxt.txt"
    wanted.write_text(pin + "\n", encoding="utf-8")
    pip = (sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-build-isolation", "--no-binary", "ccxt")
    subprocess.run([*pip, "--require-hashes", "-r", wanted, "-d", place], check=True, stdout=sys.stderr)
    (archive,) = place.glob("ccxt-*.tar.gz")
    return archive


if __name__ == "__main__":
    print(fetched())
