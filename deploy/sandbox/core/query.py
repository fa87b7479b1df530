"""A request's parameters, read the way the exchange reads them."""

from collections.abc import Mapping

from deploy.sandbox.core.errors import malformed, missing, out_of_range

MOST_DIGITS = 20


class Query:
    """The parameters of one request.

    Args:
        values: As they came.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    def text(self, name: str) -> str | None:
        """A parameter, or None where it is absent."""
        return self.values.get(name)

    def required(self, name: str) -> str:
        """A mandatory parameter.

        Raises:
            Rejected: It is absent or empty.
        """
        value = self.values.get(name)
        if not value:
            raise missing(name)
        return value

    def whole(self, name: str) -> int | None:
        """A whole number, or None where it is absent.

        Raises:
            Rejected: It is empty or holds something else than digits.
        """
        value = self.values.get(name)
        if value is None:
            return None
        if not value:
            raise missing(name)
        if not (value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS):
            raise malformed(name)
        return int(value)

    def limit(self, default: int, most: int) -> int:
        """How many rows are wanted.

        Raises:
            Rejected: Not between 1 and the most.
        """
        value = self.whole("limit")
        if value is None:
            return default
        if not 1 <= value <= most:
            raise out_of_range("limit")
        return value
