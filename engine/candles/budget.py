"""The pools that public pages draw from, apart from the weight.

Source: Binance USDⓈ-M "Get Funding Rate History" (2026-05): 500 requests in 5 minutes with fundingInfo; pages under /futures/data: 1000
requests in 5 minutes.
"""

from engine.budget import Pool, WeightBudget

__all__ = ["DATA", "FUNDING", "Pool", "WeightBudget"]

FUNDING = Pool(name="funding rates", limit=500)
DATA = Pool(name="futures data", limit=1000)
