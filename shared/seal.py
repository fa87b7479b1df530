"""What both services must agree on about sealed exchange keys: what is sealed, and what the seal is bound to.

The orchestrator seals with the engine's public key and can never read it back; only the engine holds the private one. Suite: HPKE base mode,
DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. Source: RFC 9180.
"""

from typing import Final

import msgspec

VERSION: Final = "neurotrade-seal-1"

LONGEST_KEY: Final = 256
"""Binance's keys have 64 characters, those of RSA and Ed25519 pairs some more in their public part."""


class Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An exchange's API key pair as it is sealed."""

    api_key: str
    api_secret: str

    def __repr__(self) -> str:
        return "Pair(***)"


def seal_info(key_id: str, user_id: str) -> bytes:
    """HPKE's info: binds version, key and owner, so that a sealed pair moved to another user's row does not open."""
    return msgspec.json.encode([VERSION, key_id, user_id])


def pair_bytes(pair: Pair) -> bytes:
    """The plaintext of a seal."""
    return msgspec.json.encode(pair)


def pair_of(plaintext: bytes) -> Pair:
    """The pair of a plaintext.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    return msgspec.json.decode(plaintext, type=Pair)
