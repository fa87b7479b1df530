"""Says at the start which executor runs and whether the exchange answers it."""

from engine.errors import ExchangeError
from engine.log import logger
from engine.ports import MarketData


async def announce(market: MarketData, *, dry_run: bool) -> bool:
    """Logs the executor by name, whether it is DRY_RUN or LIVE, and whether the exchange answers; True if it does."""
    executor = f"BinanceExecutor {'DRY_RUN' if dry_run else 'LIVE'}"
    try:
        listed = len(await market.instruments())
    except ExchangeError as error:
        logger().warning(f"{executor}: the exchange does not answer", dry_run=dry_run, error=str(error))
        return False
    logger().info(f"{executor}: the exchange answers", dry_run=dry_run, count=listed)
    return True
