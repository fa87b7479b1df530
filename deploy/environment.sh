#!/bin/sh
# Creates .venv from requirements.lock, hashes checked. Called by make when the lock or pyproject.toml is newer than it.
set -eu
cd "$(dirname "$0")/.."

# Two at once, as by make demo and make test side by side, would clear each other's; where there is no flock nobody waits.
exec 9>.venv.lock
if command -v flock >/dev/null 2>&1; then flock 9; fi

usable() { "$1" -c 'import sys; raise SystemExit(not (3, 12) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if command -v uv >/dev/null 2>&1; then
  echo "setting up .venv with uv" >&2
  [ -x .venv/bin/python ] && usable .venv/bin/python || uv venv --quiet --clear --python 3.12 .venv
  uv pip sync --quiet --require-hashes --python .venv/bin/python requirements.lock
  uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
  exit 0
fi

found=
for candidate in python3.12 python3.13 python3 python; do
  if command -v "$candidate" >/dev/null 2>&1 && usable "$candidate"; then found=$candidate; break; fi
done
if [ -z "$found" ]; then
  echo "NeuroTrade needs Python 3.12 or 3.13 (numba 0.61 has no later build)." >&2
  echo "Install uv, or 'pyenv install 3.12', or your system's python3.12 with its venv module, and try again." >&2
  exit 1
fi
echo "setting up .venv with $($found --version) and pip, about a minute" >&2
[ -x .venv/bin/python ] && usable .venv/bin/python || "$found" -m venv --clear .venv
.venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null  # uv leaves it out
.venv/bin/python -m pip install -qq --require-hashes --requirement requirements.lock
.venv/bin/python -m pip install -qq --no-deps --no-build-isolation --editable .
