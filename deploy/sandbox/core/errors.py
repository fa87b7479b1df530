"""What the exchange answers when it will not serve a request.

Exception
└── Rejected    the request is refused with one of Binance's codes

Source: Binance USDⓈ-M "Error Codes" (read 2026-11).
"""


class Rejected(Exception):
    """A refusal in Binance's form.

    Args:
        code: Binance's negative number.
        message: Binance's sentence.
        status: HTTP status.
        wait_ms: Market time until it is worth asking again, 0 where that is not said.
    """

    def __init__(self, code: int, message: str, status: int = 400, wait_ms: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.wait_ms = wait_ms


def missing(name: str) -> Rejected:
    """A mandatory parameter is absent."""
    return Rejected(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def malformed(name: str) -> Rejected:
    """A number holds something else."""
    return Rejected(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")


def out_of_range(name: str) -> Rejected:
    """A parameter's value is not one that is served."""
    return Rejected(-1130, f"Data sent for parameter '{name}' is not valid.")


def unknown_symbol() -> Rejected:
    """The symbol does not exist."""
    return Rejected(-1121, "Invalid symbol.")


def not_trading() -> Rejected:
    """The symbol exists and does not trade."""
    return Rejected(-1122, "Invalid symbol status.")


def unknown_interval() -> Rejected:
    """The interval does not exist."""
    return Rejected(-1120, "Invalid interval.")


def no_such_path(path: str, method: str) -> Rejected:
    """The path or the method does not exist."""
    return Rejected(-5000, f"Path {path}, Method {method} is invalid", 404)
