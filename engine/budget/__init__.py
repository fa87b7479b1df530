"""What the exchange grants us, counted in market time: for one replica, or for all of them through Redis."""

from engine.budget.shared import SharedBudget
from engine.budget.windows import Pool, WeightBudget

__all__ = ["Pool", "SharedBudget", "WeightBudget"]
