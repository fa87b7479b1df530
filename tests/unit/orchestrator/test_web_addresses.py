"""Whom a delay belongs to: the peer, or whom a proxy of ours speaks for, and never whom a stranger claims to be."""

from ipaddress import ip_network

import httpx
import pytest

from orchestrator.web.addresses import Addresses
from tests.unit.orchestrator.web_fakes import ADDRESS, World, client_of

OURS = Addresses([ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")])


@pytest.mark.parametrize(
    ("peer", "header", "address"),
    [
        ("10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "203.0.113.9, 10.9.9.9", "203.0.113.9"),
        ("2001:db8:1::7", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.1.2.3", "203.0.113.9", "203.0.113.9"),
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "nonsense", "10.1.2.3"),
        ("10.1.2.3", "203.0.113.9, unknown", "10.1.2.3"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("2001:db8:2:3:4:5:6:7", "", "2001:db8:2:3::/64"),
        ("", "198.51.100.1", ""),
        ("a.socket", "198.51.100.1", "a.socket"),
    ],
)
def test_only_a_proxy_of_ours_speaks_for_somebody_else(peer: str, header: str, address: str) -> None:
    assert OURS.of(peer, header) == address


def test_nobody_is_trusted_unless_the_settings_say_so() -> None:
    assert Addresses().of("127.0.0.1", "203.0.113.9") == "127.0.0.1"


@pytest.mark.parametrize(("trusted", "counted"), [((), ADDRESS), ((ip_network(f"{ADDRESS}/32"),), "203.0.113.9")])
async def test_a_wrong_password_counts_against_whoever_sent_it(trusted: tuple[object, ...], counted: str) -> None:
    world = World()
    world.addresses = Addresses(trusted)  # type: ignore[arg-type]
    async with client_of(world) as client:
        headers = httpx.Headers([("X-Forwarded-For", "198.51.100.77"), ("X-Forwarded-For", "203.0.113.9")])
        await client.post("/api/auth/login", json={"username": "ada", "password": "wrong password"}, headers=headers)
    assert list(world.throttle.failures) == [("ada", counted)]
