"""What passes through the REST door, whatever carries it: aiohttp's server, or a client in the same process."""

from typing import NamedTuple
from urllib.parse import parse_qsl

from deploy.sandbox.core.query import Query
from deploy.sandbox.core.signing import parameters

JSON = "application/json"


class Asked(NamedTuple):
    """One request as it came, not yet believed."""

    method: str
    path: str
    query: str = ""
    """As it came, without the question mark."""
    body: str = ""
    key: str | None = None
    remote: str = ""
    """The caller's address: whose weight it costs."""
    lag_ms: int = 0
    """How old the state is that a read is answered from, wall time."""

    def parameters(self) -> dict[str, str]:
        """Its parameters, wherever they stand."""
        return parameters(self.query, self.body)

    def public(self) -> Query:
        """Parameters of a public request: the query string alone."""
        return Query(dict(reversed(parse_qsl(self.query, keep_blank_values=True))))


class Told(NamedTuple):
    """A reply."""

    status: int
    body: bytes
    headers: dict[str, str]
    content_type: str = JSON


class Silence(NamedTuple):
    """No reply, and the connection stays open so long, wall seconds."""

    seconds: float
    lost: bool = False
    """Whether the request was not carried out, and never will be."""


class Reset(NamedTuple):
    """No reply, and the connection is gone."""


Outcome = Told | Silence | Reset
"""What a caller meets."""
