"""The engine's seal: the only place where a user's exchange keys are opened.

Adapter of the Keys port. Holds the private keys, newest first; every one opens, the newest seals. An engine without one cannot trade real
accounts and says so; nothing else of it is touched.
"""

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from engine.errors import SealBroken
from engine.ports import KeyPair
from shared.execution import PublicKeyReply, SealedCredentials
from shared.seal import Pair, pair_bytes, pair_of, seal_info

SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
PRIVATE_BYTES: Final = 32
SHORT_ID: Final = 12


class PrivateKey(msgspec.Struct, frozen=True):
    """One private key and the id under which it is known: a digest of its public half."""

    key_id: str
    key: X25519PrivateKey

    def __repr__(self) -> str:
        return f"PrivateKey({self.key_id})"


class Seal:
    """Implements the port Keys.

    Args:
        private_keys: Newest first; none means that nothing can be sealed or opened.
    """

    def __init__(self, private_keys: Sequence[PrivateKey]) -> None:
        self._newest = private_keys[0] if private_keys else None
        self._by_id = {one.key_id: one.key for one in private_keys}

    def __repr__(self) -> str:
        return "Seal(***)"

    def public(self, *, claimable: bool) -> PublicKeyReply:
        """What is sealed to.

        Raises:
            SealBroken: There is no key.
        """
        newest = self._must_have()
        public = b64encode(newest.key.public_key().public_bytes_raw()).decode()
        return PublicKeyReply(key_id=newest.key_id, public_key=public, claimable=claimable)

    def open(self, user_id: str, credentials: SealedCredentials) -> KeyPair:
        """The pair.

        Raises:
            SealBroken: It was sealed for another user, to a key that is not here, or is damaged.
        """
        key = self._by_id.get(credentials.key_id)
        if key is None:
            raise SealBroken("these credentials are sealed to a key that this engine does not have")
        try:
            opened = SUITE.decrypt(b64decode(credentials.sealed, validate=True), key, seal_info(credentials.key_id, user_id))
            pair = pair_of(opened)
        except (InvalidTag, ValueError, Base64Error, msgspec.MsgspecError):
            raise SealBroken("these credentials do not open for this user") from None  # a cause could carry bytes of them
        return KeyPair(api_key=pair.api_key, api_secret=pair.api_secret)

    def seal(self, user_id: str, pair: KeyPair) -> SealedCredentials:
        """A pair sealed to the newest key for one user.

        Raises:
            SealBroken: There is no key.
        """
        newest = self._must_have()
        plaintext = pair_bytes(Pair(api_key=pair.api_key, api_secret=pair.api_secret))
        sealed = SUITE.encrypt(plaintext, newest.key.public_key(), seal_info(newest.key_id, user_id))
        return SealedCredentials(key_id=newest.key_id, sealed=b64encode(sealed).decode())

    def reseal(self, user_id: str, credentials: SealedCredentials) -> SealedCredentials:
        """The same pair under the newest key; what is sealed to it already comes back as it is.

        Raises:
            SealBroken: It does not open, or there is no key.
        """
        if credentials.key_id == self._must_have().key_id:
            self.open(user_id, credentials)
            return credentials
        return self.seal(user_id, self.open(user_id, credentials))

    def _must_have(self) -> PrivateKey:
        if self._newest is None:
            raise SealBroken("this engine has no SEAL_PRIVATE_KEYS: it can neither seal nor open exchange keys")
        return self._newest


def private_keys_of(setting: str) -> list[PrivateKey]:
    """The keys of SEAL_PRIVATE_KEYS: 32 bytes each in base64, newest first, separated by commas.

    Raises:
        ValueError: One is malformed; nothing of it is told.
    """
    keys = []
    for part in filter(None, (text.strip() for text in setting.split(","))):
        try:
            raw = b64decode(part, validate=True)
        except Base64Error:
            raise ValueError("a key is not base64") from None
        if len(raw) != PRIVATE_BYTES:
            raise ValueError(f"a key must have {PRIVATE_BYTES} bytes")
        key = X25519PrivateKey.from_private_bytes(raw)
        keys.append(PrivateKey(key_id=key_id_of(key), key=key))
    return keys


def key_id_of(key: X25519PrivateKey) -> str:
    """The public half's digest, shortened: the same key has the same id everywhere."""
    return hashlib.sha256(key.public_key().public_bytes_raw()).hexdigest()[:SHORT_ID]


def new_private_key() -> str:
    """A new key as SEAL_PRIVATE_KEYS takes it."""
    return b64encode(X25519PrivateKey.generate().private_bytes_raw()).decode()
