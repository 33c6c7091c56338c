"""JSON: every event comes back equal; nothing else is read."""

import json
import math

import pytest
from hypothesis import given

from dpfunc.accounting import Compose, Gaussian, Laplace, Poisson, Repeat, from_json, to_json
from tests.accounting.strategies import EVENTS

STEP = Poisson(0.1, Gaussian(2.0))


@given(EVENTS)
def test_every_event_comes_back(event):
    text = to_json(event)
    again = from_json(text)
    assert again == event
    assert hash(again) == hash(event)
    assert to_json(again) == text


def test_the_text_is_plain_json_that_names_its_format():
    assert json.loads(to_json(STEP * 3 + Laplace(math.inf))) == {
        "format": "dpfunc.accounting.event",
        "version": 1,
        "event": {
            "kind": "Compose",
            "events": [
                {
                    "kind": "Repeat",
                    "event": {
                        "kind": "Poisson",
                        "sample_rate": 0.1,
                        "event": {"kind": "Gaussian", "noise_multiplier": 2.0},
                    },
                    "times": 3,
                },
                {"kind": "Laplace", "noise_multiplier": "inf"},
            ],
        },
    }


def document(event='{"kind": "Gaussian", "noise_multiplier": 1.0}', **changes):
    head = {"format": '"dpfunc.accounting.event"', "version": "1", "event": event} | changes
    return "{" + ", ".join(f'"{name}": {value}' for name, value in head.items() if value) + "}"


def test_the_document_of_the_refusals_is_itself_accepted():
    assert from_json(document()) == Gaussian(1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "the document with .* but got 'list'"),
        ("null", "the document with"),
        (document(version=""), r"but got \['event', 'format'\]"),
        (document(extra="1"), "the document with"),
        (document(version="2"), "expected version 1 but got 2"),
        (document(version="1.0"), "expected version 1 but got 1.0"),
        (document(version="true"), "expected version 1 but got True"),
        (document(format='"other"'), "expected format 'dpfunc.accounting.event' but got 'other'"),
        (document("3"), "an event of a known kind but got 3"),
        (document("[]"), "an event of a known kind"),
        (document("{}"), "an event of a known kind but got None"),
        (document('{"kind": "Magic"}'), "an event of a known kind but got 'Magic'"),
        (document('{"kind": ["Gaussian"]}'), "an event of a known kind"),
        (document('{"kind": "Event"}'), "an event of a known kind"),
        (document('{"kind": "Gaussian"}'), r"Gaussian with \['noise_multiplier'\] but got \[\]"),
        (document('{"kind": "Gaussian", "noise_multiplier": 1, "q": 1}'), "Gaussian with"),
        (
            document('{"kind": "Gaussian", "noise_multiplier": -1}'),
            "noise_multiplier >= 0",
        ),
        (document('{"kind": "Gaussian", "noise_multiplier": true}'), "noise_multiplier >= 0"),
        (document('{"kind": "Gaussian", "noise_multiplier": "1"}'), "noise_multiplier >= 0"),
        (document('{"kind": "Gaussian", "noise_multiplier": NaN}'), "expected numbers"),
        (document('{"kind": "Gaussian", "noise_multiplier": Infinity}'), "expected numbers"),
        (document('{"kind": "Gaussian", "noise_multiplier": 1e999}'), "a number that a float can"),
        (document('{"kind": "Gaussian", "noise_multiplier": {"kind": "NonPrivate"}}'), "Gaussian:"),
        (
            document('{"kind": "Gaussian", "noise_multiplier": 9, "noise_multiplier": 1}'),
            "every field once",
        ),
        (document('{"kind": "Compose", "events": 1}'), "a tuple of events"),
        (document('{"kind": "Compose", "events": [1]}'), "expected an event but got 'int'"),
        (document('{"kind": "Repeat", "event": 1, "times": 1}'), "expected an event but got 'int'"),
        (
            document('{"kind": "Repeat", "times": 1.5, "event": {"kind": "NonPrivate"}}'),
            "an int times",
        ),
    ],
)
def test_anything_else_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=message):
        from_json(text)


def nested(depth):
    head, tail = '{"kind": "Repeat", "times": 1, "event": ', "}"
    return document(head * (depth - 1) + '{"kind": "NonPrivate"}' + tail * (depth - 1))


@pytest.mark.parametrize("depth", [101, 400, 100_000])
def test_text_nested_too_deep_is_refused(depth):
    """However deep Python may recurse: what compiles graphs lets it go deeper."""
    with pytest.raises(ValueError, match=r"from_json: .* nested too deep"):
        from_json(nested(depth))


def test_an_event_as_deep_as_allowed_is_written_and_read_and_a_deeper_one_is_not_written():
    deepest = from_json(nested(100))
    assert from_json(to_json(deepest)) == deepest
    with pytest.raises(ValueError, match=r"to_json: .* nested too deep"):
        to_json(Repeat(deepest, 2))


def test_only_events_are_written():
    with pytest.raises(TypeError, match="to_json: expected an event but got 'int'"):
        to_json(3)


def test_floats_keep_every_bit():
    for value in (0.1 + 0.2, 5e-324, 1.7976931348623157e308):
        assert from_json(to_json(Gaussian(value))).noise_multiplier == value


def test_structure_is_kept_as_it_was_written():
    literal = Compose((Repeat(Repeat(STEP, 1), 0), Compose((STEP, STEP)), Compose(())))
    assert from_json(to_json(literal)) == literal
