"""Who leads: one process of the deployment at a time, by a lease in Redis that ends by itself.

A write of the leader names the lease and itself (`engine.snapshots.Fence`), and Redis refuses it where somebody else leads by then: a
process that stood still for a while and wakes up changes nothing.
"""

from collections.abc import Awaitable
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from engine.errors import SnapshotsUnavailable

KEY: Final = "engine:v1:feed:leader"
LEASE_SECONDS: Final = 3.0
"""How long a dead leader keeps others waiting, and thrice the time between two renewals."""

HOLD_SCRIPT: Final = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
LEAVE_SCRIPT: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1"


class Lease:
    """The lease on leading.

    Args:
        redis: Shared by the deployment.
        holder: Names this process, differently from any other.
        seconds: Wall time after which it ends unless it is held again.
    """

    def __init__(self, redis: "Redis", holder: str, seconds: float = LEASE_SECONDS) -> None:
        self._redis = redis
        self.holder = holder
        self.seconds = seconds

    async def hold(self) -> bool:
        """Takes it where nobody else has it, or keeps it; False where somebody else has it.

        Raises:
            SnapshotsUnavailable: Redis does not answer; who leads is not known.
        """
        try:
            asked = self._redis.eval(HOLD_SCRIPT, 1, KEY, self.holder, str(round(self.seconds * 1000)))
            return bool(await cast(Awaitable[int], asked))
        except (RedisError, OSError) as error:
            raise SnapshotsUnavailable(type(error).__name__) from error

    async def leave(self) -> None:
        """Gives it back where it is ours, so that nobody waits for its end; never fails."""
        try:
            await cast(Awaitable[int], self._redis.eval(LEAVE_SCRIPT, 1, KEY, self.holder))
        except (RedisError, OSError):
            return
