"""What the exchange grants us, counted in market time, and what the model may cost, in wall time: for all replicas through Redis."""

from engine.budget.shared import SharedBudget
from engine.budget.spending import DailySpending, Prices
from engine.budget.windows import Pool, WeightBudget, granted_in

__all__ = ["DailySpending", "Pool", "Prices", "SharedBudget", "WeightBudget", "granted_in"]
