"""Strict JSON that gives every float back."""

from __future__ import annotations

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from gradreach.runs.plain_json import dumps, loads

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: not (isinstance(value, dict) and value.keys() == {"$float"}))


def same(one: object, other: object) -> bool:
    """Equality that holds for NaN, and tells 0 from False."""
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or one == other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


def strict(text: str) -> object:
    """Read as another program would, which knows no NaN."""
    return json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_everything_comes_back(value: dict[str, object]) -> None:
    text = dumps({"value": value})

    strict(text)
    text.encode()  # can be written
    if "$float" not in text:
        assert same(loads(text), {"value": value})


def test_what_is_not_finite_comes_back_and_its_names_stay_names() -> None:
    value = {"NaN": "NaN", "all": [math.nan, math.inf, -math.inf, -0.0], "tuple": (1, 2)}

    back = loads(dumps(value))

    assert math.isnan(back["all"][0])
    assert back["all"][1:] == [math.inf, -math.inf, 0.0]
    assert math.copysign(1, back["all"][3]) == -1
    assert (back["NaN"], back["tuple"]) == ("NaN", [1, 2])


def test_text_stays_readable_and_half_characters_can_be_written() -> None:
    assert dumps(["∂L/∂h"]) == '["∂L/∂h"]'
    assert loads(dumps(["na\udcefve"])) == ["na\udcefve"]
