"""Becomes another program that cannot outlive its parent: `python -I -S tether.py PARENT_PID SIGNAL USER COMMAND…`.

A supervisor that is killed with -9 cannot stop its children; on Linux the kernel does it for them. USER is "-" or the account to become, which
only root asks for: PostgreSQL refuses to run as root. Runs as a file, without the project on its path, so that a start costs milliseconds.
"""

import ctypes  # before the change of user: the account may not be able to read this interpreter's library
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
"""Source: prctl(2), Linux 2.1.57 and later. Cleared by a change of user, so it is set after it."""


def main(arguments: list[str]) -> None:
    """Changes the user, ties this process to its parent, and becomes the command."""
    parent, signal_number, user, *command = arguments
    kernel = ctypes.CDLL(None)
    if user != "-":
        _become(user)
    if sys.platform == "linux":
        kernel.prctl(PR_SET_PDEATHSIG, int(signal_number))
        if os.getppid() != int(parent):
            raise SystemExit("the supervisor is gone")
    os.execvp(command[0], command)  # noqa: S606 - becoming the command is what this file is for


def _become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = "/"


if __name__ == "__main__":
    main(sys.argv[1:])
