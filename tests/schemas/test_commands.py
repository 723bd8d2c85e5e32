"""Commands on the wire, what is signed of them, and the limits they may change."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.codecs import Refused, decode, encode
from schemas.codes import Breaker, ControlAction, DeadLetter
from schemas.commands import (
    BREAKERS,
    CHANGEABLE,
    COUNTED_BY,
    Command,
    Signature,
    limit_units,
    limit_value,
    signed_bytes,
)

PLAIN: dict[str, Any] = {
    "account": "demo",
    "command_id": 1_700_000_000_000_000_000,
    "action": "halt",
    "issuer": "alice",
    "reason": "a feed is wrong",
    "expires_ns": 1_700_000_600_000_000_000,
    "breaker": "",
    "strategy": "",
    "instrument": "",
    "limit": "",
    "value": "0",
    "signatures": [],
}
LIMIT = {"action": "lower_limit", "limit": "daily_loss", "value": "0.01"}
RELEASE = {"action": "release", "breaker": "repeated_execution", "strategy": "ema", "instrument": "QQQ"}


def command(**changes: Any) -> Command:
    return Command.model_validate({**PLAIN, **changes})


# --- form


@pytest.mark.parametrize("changes", [{}, LIMIT, RELEASE, {"action": "release", "instrument": "QQQ"}])
def test_a_command_survives_the_wire(changes: dict[str, Any]) -> None:
    given_ = command(**changes, signatures=[Signature(key="alice", signature="c2ln")])
    assert decode(Command, encode(given_)) == given_


@pytest.mark.parametrize("name", list(PLAIN))
def test_no_field_has_a_default(name: str) -> None:
    with pytest.raises(ValidationError, match="Field required"):
        Command.model_validate({key: value for key, value in PLAIN.items() if key != name})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"reason": ""}, "at least 1 character", id="no reason"),
        pytest.param({"reason": "x" * 201}, "at most 200 characters", id="long reason"),
        pytest.param({"reason": "a\x1b[2J"}, "cannot be shown", id="a reason that clears the screen"),
        pytest.param({"reason": "a\nb"}, "cannot be shown", id="a reason of two lines"),
        pytest.param({"command_id": 0}, "greater than or equal to 1", id="no time"),
        pytest.param({"command_id": True}, "valid integer", id="a truth for a time"),
        pytest.param({"action": "stop"}, "not one of", id="unknown action"),
        pytest.param({"action": 1}, "a name is needed", id="a number for an action"),
        pytest.param({"account": "a\nb"}, "match pattern", id="an account of two lines"),
        pytest.param({"issuer": ""}, "at least 1 character", id="no issuer"),
        pytest.param({**RELEASE, "breaker": "Drawdown"}, "not one of", id="unknown breaker"),
        pytest.param({**LIMIT, "limit": "cash"}, "not one of", id="a limit that is not changeable"),
        pytest.param({**LIMIT, "value": "1e3"}, "decimal string", id="a value with an exponent"),
        pytest.param({**LIMIT, "value": 0.01}, "decimal string", id="a value in binary"),
        pytest.param({"limit": "daily_loss"}, "takes no limit", id="halt with a limit"),
        pytest.param({"value": "1"}, "takes no limit", id="halt with a value"),
        pytest.param({**LIMIT, "limit": ""}, "needs the name of a limit", id="no limit to lower"),
        pytest.param({**LIMIT, "instrument": "QQQ"}, "whole account", id="a limit of one instrument"),
        pytest.param({"instrument": "QQQ"}, "whole account", id="halt of one instrument"),
        pytest.param({"strategy": "ema"}, "whole account", id="halt of one strategy"),
        pytest.param({"breaker": "drawdown"}, "whole account", id="halt of a breaker"),
        pytest.param({"action": "release"}, "needs an instrument", id="nothing to release"),
        pytest.param(
            {"action": "release", "instrument": "QQQ", "strategy": "ema"},
            "no strategy",
            id="unblock too much",
        ),
        pytest.param({"signatures": [{"key": "a", "signature": "", "x": 1}]}, "not permitted", id="more"),
        pytest.param(
            {"signatures": [{"key": "a", "signature": ""}] * 9}, "at most 8", id="too many signatures"
        ),
    ],
)
def test_what_is_no_command(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        command(**changes)


def test_every_breaker_says_what_it_counts_by() -> None:
    assert set(COUNTED_BY) == set(Breaker) == set(BREAKERS.values())


@pytest.mark.parametrize("breaker", list(Breaker), ids=str)
def test_a_release_names_just_what_its_breaker_counts_by(breaker: Breaker) -> None:
    accepted = []
    for strategy in ("", "ema"):
        for instrument in ("", "QQQ"):
            about = {"breaker": breaker.name.lower(), "strategy": strategy, "instrument": instrument}
            try:
                command(action="release", **about)
            except ValidationError:
                continue
            accepted.append((bool(strategy), bool(instrument)))
    assert accepted == [COUNTED_BY[breaker]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", DeadLetter.MALFORMED),
        (encode(command())[:-1], DeadLetter.MALFORMED),
        (encode(command()).replace(b'"version":1', b'"version":2'), DeadLetter.WRONG_VERSION),
        (encode(command()).replace(b'"limit":""', b'"limit":"","limit":""'), DeadLetter.DUPLICATE_KEY),
        (encode(command()).replace(b'"limit":""', b'"limit":"cash"'), DeadLetter.UNKNOWN_ENUM),
        (encode(command()).replace(b'"limit":""', b'"limit":"daily_loss"'), DeadLetter.WRONG_TYPE),
    ],
)
def test_bytes_that_are_no_command(data: bytes, reason: DeadLetter) -> None:
    refused = decode(Command, data)
    assert isinstance(refused, Refused)
    assert refused.reason == reason


# --- what is signed


def test_the_signed_bytes_are_fixed_for_ever() -> None:
    assert signed_bytes(command()) == (
        b"sluice command 1\ndemo\n"
        b'{"account":"demo","action":"halt","breaker":"","command_id":1700000000000000000,'
        b'"expires_ns":1700000600000000000,"instrument":"","issuer":"alice","limit":"",'
        b'"reason":"a feed is wrong","strategy":"","value":"0.000000"}'
    )


ALTERED: dict[str, Callable[[Command], Any]] = {
    "account": lambda _: "demo2",
    "command_id": lambda c: c.command_id + 1,
    "action": lambda c: ControlAction((c.action + 1) % len(ControlAction)),
    "issuer": lambda _: "bob",
    "reason": lambda c: c.reason + ".",
    "expires_ns": lambda c: c.expires_ns + 1,
    "breaker": lambda _: "drawdown",
    "strategy": lambda c: c.strategy + "x",
    "instrument": lambda c: c.instrument + "x",
    "limit": lambda _: "drawdown",
    "value": lambda c: c.value + Decimal("0.000001"),
}


@pytest.mark.parametrize("name", [name for name in PLAIN if name != "signatures"])
def test_each_field_is_signed(name: str) -> None:
    for changes in ({}, LIMIT, RELEASE):
        before = command(**changes)
        after = before.model_copy(update={name: ALTERED[name](before)})
        assert signed_bytes(after) != signed_bytes(before)


def test_signatures_are_not_signed_so_that_two_can_sign_the_same() -> None:
    signed = command(signatures=[Signature(key="alice", signature="c2ln")])
    assert signed_bytes(signed) == signed_bytes(command())


@given(st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,6})?", fullmatch=True))
def test_a_value_is_signed_in_one_text_however_it_was_written(value: str) -> None:
    written = command(**{**LIMIT, "value": value})
    again = decode(Command, encode(written))
    assert isinstance(again, Command)
    assert signed_bytes(again) == signed_bytes(written)


# --- limits

RANGES = [
    ("max_position_value", "0.000001", "900000000", "0", "900000000.000001"),
    ("max_position_share", "0.000001", "1", "0", "1.000001"),
    ("max_positions", "1", "10000", "0", "10001"),
    ("max_volume_share", "0.000001", "1", "0", "1.000001"),
    ("openings_per_window", "1", "16", "0", "17"),
    ("openings_per_day", "1", "100000", "0", "100001"),
    ("message_burst", "1", "1000000", "0", "1000001"),
    ("messages_per_minute", "1", "1000000", "0", "1000001"),
    ("daily_loss", "0.000001", "1", "0", "1.000001"),
    ("rapid_loss", "0.000001", "1", "0", "1.000001"),
    ("drawdown", "0.000001", "1", "0", "1.000001"),
    ("losses_in_a_row", "1", "1000000", "0", "1000001"),
    ("strategy_loss", "0.000001", "1", "0", "1.000001"),
]
COUNTS = {
    "max_positions",
    "openings_per_window",
    "openings_per_day",
    "message_burst",
    "messages_per_minute",
    "losses_in_a_row",
}


def test_every_changeable_limit_has_a_range_here() -> None:
    assert [row[0] for row in RANGES] == list(CHANGEABLE)


@pytest.mark.parametrize(("name", "least", "most", "below", "above"), RANGES)
def test_the_range_of_a_limit(name: str, least: str, most: str, below: str, above: str) -> None:
    scale = 1 if name in COUNTS else 1_000_000
    assert limit_units(name, Decimal(least)) == Decimal(least) * scale == 1
    assert limit_units(name, Decimal(most)) == Decimal(most) * scale
    for value in (below, above, "-1"):
        with pytest.raises(ValueError, match=f"{name} cannot be {value}"):
            limit_units(name, Decimal(value))
    assert limit_value(name, limit_units(name, Decimal(most))) == Decimal(most)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_half_a_count_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="is a count"):
        limit_units(name, Decimal("1.5"))
    assert limit_units(name, Decimal("2.000000")) == 2
