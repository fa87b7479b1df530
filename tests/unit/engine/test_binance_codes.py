"""The table of error codes knows every code that is written down, and every error class that ccxt has."""

import pytest
from ccxt import binanceusdm
from ccxt.base import errors

from engine.binance.codes import CLASSES, CODES, Action, decide
from engine.core.order import OrderRefusal

WRITTEN_DOWN = """
-1000 -1001 -1006 -1003 -1015 -1007 -1008 -1021 -5028 -1022 -2014 -2015 -1102 -1111 -1121 -1128 -1130 -2010 -2011 -2013 -2018 -2019 -2021
-4142 -2022 -4118 -2023 -2025 -2027 -2028 -4003 -4004 -4005 -4014 -4023 -4015 -4016 -4024 -4028 -4045 -4047 -4048 -4067 -4068 -4046 -4059
-4061 -4116 -4120 -4131 -4164 -5021 -5022 -4400 -4401 -4402 -4403 -4192 -4130 -4161 -4105 -4106 -4107 -4109 -4137 -4138 -4139 -1125 -5000
-2017 -1109 -4087 -4088
"""
"""Every code of the exchange's page that an order can meet, as noted with the CCXT class of each."""

REFUSED_UNNAMED = {
    "a malformed request": "-1023 -1110 -1126 -1136 -2016 -2026 -4165",
    "transfers and withdrawals": "-1113 -4114 -4115",
    "options": "-4063 -4064 -4065 -4066 -4069 -4070 -4071 -4072 -4073 -4074 -4075 -4076 -4077 -4079 -4080 -4081",
    "settings of the account that we never change": "-4085 -4167 -4169 -4170 -4171 -4172 -4531",
    "amending an order": "-5024 -5025 -5026 -5027 -5047",
    "price match, self-trade prevention and dated orders": "-5037 -5038 -5039 -5040 -5041",
}
"""Codes that ccxt knows and our table need not: each says no before anything was placed, and to what we never send but for a bug of ours."""


@pytest.mark.parametrize("code", [int(word) for word in WRITTEN_DOWN.split()])
def test_every_code_that_is_written_down_has_a_decision(code: int) -> None:
    assert code in CODES


def test_every_code_that_ccxt_knows_is_decided_or_known_to_be_a_certain_no() -> None:
    known = {int(code) for code in binanceusdm().exceptions["linear"]["exact"]}
    unnamed = [int(code) for codes in REFUSED_UNNAMED.values() for code in codes.split()]
    assert known - set(CODES) - set(unnamed) == set(), (
        "ccxt grew codes: say in CODES or REFUSED_UNNAMED what each means for an order"
    )
    assert set(unnamed) & set(CODES) == set()
    assert {decide(400, code, "").action for code in unnamed} == {Action.REFUSE}


def test_every_error_class_of_ccxt_has_a_decision() -> None:
    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert classes - set(CLASSES) == set(), "ccxt grew error classes: say in codes.CLASSES what each means where no reply came"
    assert set(CLASSES) - classes == set(), "ccxt dropped error classes"


def test_every_class_that_can_mean_a_lost_answer_leaves_the_order_unsure() -> None:
    for name, decision in CLASSES.items():
        if issubclass(getattr(errors, name), errors.OperationFailed):
            assert decision.action is Action.UNSURE, name


@pytest.mark.parametrize(
    ("status", "code", "text", "action"),
    [
        (503, None, "Service Unavailable.", Action.AGAIN),
        (503, None, "Unknown error, please check your request or try again later.", Action.UNSURE),
        (503, -1000, "Unknown error, please check your request or try again later.", Action.UNSURE),
        (503, -1008, "Server is currently overloaded", Action.AGAIN),
        (503, None, "<html>busy</html>", Action.UNSURE),
        (503, None, "<html><head><title>503 Service Unavailable</title></head></html>", Action.UNSURE),
        (502, None, "<html>bad gateway</html>", Action.UNSURE),
        (504, None, "", Action.UNSURE),
        (500, None, "", Action.UNSURE),
        (599, None, "", Action.UNSURE),
        (403, None, "<html>request blocked</html>", Action.WAIT),
        (429, -1003, "Too many requests", Action.WAIT),
        (418, None, "banned", Action.WAIT),
        (408, None, "", Action.UNSURE),
        (404, None, "<html>", Action.REFUSE),
        (400, -9999, "a code nobody knows", Action.REFUSE),
        (503, -9999, "a code nobody knows", Action.UNSURE),
        (200, None, "not json", Action.UNSURE),
    ],
)
def test_a_reply_is_judged_by_its_number_then_by_its_status(status: int, code: int | None, text: str, action: Action) -> None:
    assert decide(status, code, text).action is action


def test_only_reducing_orders_left_is_a_refusal_and_no_halt() -> None:
    decision = decide(400, -4400, "only reduceOnly order is allowed")
    assert (decision.action, decision.refusal) == (Action.REFUSE, OrderRefusal.VENUE_HALTED)
