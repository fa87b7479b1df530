"""The seal: a pair opens for the user it was sealed for, with the key it was sealed to, and nobody learns anything from a failure."""

import pytest

from engine.core.order import OrderRefusal
from engine.errors import SealBroken, SettingsError
from engine.execution.key_check import advice_on, problems_with
from engine.keys import Seal, new_private_key, private_keys_of
from engine.ports import AccountModes, KeyPair, Permissions
from engine.settings import read_settings
from shared.enums import PositionMode
from shared.execution import SealedCredentials

PAIR = KeyPair(api_key="the-api-key-of-somebody", api_secret="the-secret-of-somebody")
FINE = Permissions(can_trade=True, can_withdraw=False, ip_restricted=True)
SET = AccountModes(position=PositionMode.ONE_WAY, multi_assets=False)


@pytest.fixture
def seal() -> Seal:
    return Seal(private_keys_of(new_private_key()))


def test_a_sealed_pair_opens_for_its_user(seal: Seal) -> None:
    assert seal.open("user-1", seal.seal("user-1", PAIR)) == PAIR


def test_a_sealed_pair_moved_to_another_user_does_not_open(seal: Seal) -> None:
    with pytest.raises(SealBroken):
        seal.open("user-2", seal.seal("user-1", PAIR))


def test_a_seal_says_nothing_of_what_it_holds(seal: Seal) -> None:
    sealed = seal.seal("user-1", PAIR)
    for text in (repr(sealed), repr(PAIR), repr(seal), str(sealed), sealed.sealed):
        assert PAIR.api_key not in text
        assert PAIR.api_secret not in text


def test_every_changed_byte_keeps_it_shut_and_the_error_quotes_nothing(seal: Seal) -> None:
    sealed = seal.seal("user-1", PAIR)
    for at in range(0, len(sealed.sealed), 7):
        other = "A" if sealed.sealed[at] != "A" else "B"
        damaged = SealedCredentials(key_id=sealed.key_id, sealed=sealed.sealed[:at] + other + sealed.sealed[at + 1 :])
        with pytest.raises(SealBroken) as error:
            seal.open("user-1", damaged)
        assert error.value.__cause__ is None
        assert damaged.sealed not in str(error.value)


def test_a_pair_sealed_to_another_engines_key_does_not_open(seal: Seal) -> None:
    other = Seal(private_keys_of(new_private_key()))
    with pytest.raises(SealBroken):
        other.open("user-1", seal.seal("user-1", PAIR))


def test_after_a_rotation_old_seals_open_and_are_sealed_anew() -> None:
    old_key, new_key = new_private_key(), new_private_key()
    sealed = Seal(private_keys_of(old_key)).seal("user-1", PAIR)
    both, only_new = Seal(private_keys_of(f"{new_key}, {old_key}")), Seal(private_keys_of(new_key))
    anew = both.reseal("user-1", sealed)
    assert both.open("user-1", sealed) == PAIR
    assert only_new.open("user-1", anew) == PAIR
    assert both.reseal("user-1", anew) == anew
    with pytest.raises(SealBroken):
        only_new.open("user-1", sealed)
    with pytest.raises(SealBroken):
        both.reseal("user-2", sealed)


def test_an_engine_without_a_key_neither_seals_nor_opens(seal: Seal) -> None:
    none = Seal(private_keys_of(""))
    for broken in (
        lambda: none.seal("user-1", PAIR),
        lambda: none.public(claimable=False),
        lambda: none.open("user-1", seal.seal("user-1", PAIR)),
    ):
        with pytest.raises(SealBroken):
            broken()


def test_a_malformed_private_key_stops_the_start_without_being_told() -> None:
    env = {"ENGINE_TOKEN": "t", "REDIS_URL": "redis://x", "SEAL_PRIVATE_KEYS": "not-a-key-but-secret"}
    with pytest.raises(SettingsError, match="SEAL_PRIVATE_KEYS") as error:
        read_settings(env)
    assert "not-a-key-but-secret" not in str(error.value)
    assert read_settings({**env, "SEAL_PRIVATE_KEYS": new_private_key()}).seal_private_keys


@pytest.mark.parametrize(
    ("permissions", "modes", "codes"),
    [
        (FINE, SET, []),
        (Permissions(can_trade=False, can_withdraw=False, ip_restricted=True), SET, ["key_cannot_trade"]),
        (Permissions(can_trade=None, can_withdraw=False, ip_restricted=True), SET, ["key_cannot_trade"]),
        (Permissions(can_trade=True, can_withdraw=True, ip_restricted=True), SET, ["key_can_withdraw"]),
        (Permissions(can_trade=True, can_withdraw=None, ip_restricted=True), SET, ["key_can_withdraw"]),
        (FINE, AccountModes(position=PositionMode.HEDGE, multi_assets=False), [OrderRefusal.HEDGE_MODE]),
        (FINE, AccountModes(position=PositionMode.ONE_WAY, multi_assets=True), [OrderRefusal.MULTI_ASSETS]),
        (
            FINE,
            AccountModes(position=PositionMode.HEDGE, multi_assets=True),
            [OrderRefusal.HEDGE_MODE, OrderRefusal.MULTI_ASSETS],
        ),
    ],
)
def test_what_the_exchange_does_not_say_is_not_taken_as_fine(
    permissions: Permissions, modes: AccountModes, codes: list[str]
) -> None:
    assert [problem.code for problem in problems_with(permissions, modes)] == codes


def test_an_address_restriction_is_advice_alone() -> None:
    open_key = Permissions(can_trade=True, can_withdraw=False, ip_restricted=False)
    assert problems_with(open_key, SET) == []
    assert [one.code for one in advice_on(open_key)] == ["key_not_ip_restricted"]
    assert advice_on(FINE) == []
