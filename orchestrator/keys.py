"""Seals users' exchange keys to the engine's public key. Implements the port Sealer: one way only, nothing here can open a seal.

Source: RFC 9180 (HPKE, base mode); suite and info as in `shared.seal`.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Final, Protocol
from uuid import UUID

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from orchestrator.errors import EngineUnavailable
from shared.execution import PublicKeyReply, SealedCredentials
from shared.seal import Pair, pair_bytes, seal_info

SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)


class PublicKeys(Protocol):
    """Who knows what to seal to."""

    async def public_key(self) -> PublicKeyReply:
        """The engine's newest public key."""
        ...


class EngineSealer:
    """Asks for the newest public key each time, so that a rotation holds at once."""

    def __init__(self, keys: PublicKeys) -> None:
        self._keys = keys

    async def seal(self, user_id: UUID, api_key: str, api_secret: str) -> SealedCredentials:
        """The pair, bound to its owner.

        Raises:
            EngineUnavailable: The engine did not say what to seal to, or (EngineRefused) has no seal.
        """
        told = await self._keys.public_key()
        try:
            public = X25519PublicKey.from_public_bytes(b64decode(told.public_key, validate=True))
        except (Base64Error, ValueError):
            raise EngineUnavailable("/keys: what came is no public key") from None
        plaintext = pair_bytes(Pair(api_key=api_key, api_secret=api_secret))
        sealed = SUITE.encrypt(plaintext, public, seal_info(told.key_id, str(user_id)))
        return SealedCredentials(key_id=told.key_id, sealed=b64encode(sealed).decode())
