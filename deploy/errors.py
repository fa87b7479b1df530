"""What can go wrong around the two services, told so that a person can act on it.

DeployError
├── ServerFailed     an embedded server did not start, or did not answer in time
├── FolderInUse      another supervisor runs on this data folder
├── FolderMismatch   the data folder was made with other options
├── PortTaken        the dashboard's port is in use
└── ChildFailed      a process ended during start-up and would not stay up
"""


class DeployError(Exception):
    """The head of the tree; its message is shown to the person at the terminal."""


class ServerFailed(DeployError):
    """An embedded server did not start or did not answer in time; the message carries the end of its log."""


class FolderInUse(DeployError):
    """Another supervisor holds the lock of this data folder."""


class FolderMismatch(DeployError):
    """The data folder was made with other options; the message names `--fresh`."""


class PortTaken(DeployError):
    """The dashboard's port is in use."""


class ChildFailed(DeployError):
    """A process would not stay up during start-up."""
