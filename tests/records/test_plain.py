"""Arrays and schema versions survive strict JSON, and nothing else is let in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gradreach.errors import GradreachError
from gradreach.records.plain import SchemaError, check_schema, from_plain, to_plain
from gradreach.runs.plain_json import dumps, loads

DTYPES = st.sampled_from([np.float32, np.float64, np.int64, np.bool_])
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@given(DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, SHAPES)))
def test_array_comes_back_through_strict_json(array):
    back = from_plain(loads(dumps(to_plain(array))))

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(back, array)  # NaN equals NaN
    if array.dtype.kind == "f":
        numbers = ~np.isnan(array)  # the sign of a NaN says nothing
        np.testing.assert_array_equal(np.signbit(back)[numbers], np.signbit(array)[numbers])


@pytest.mark.parametrize("dtype", ["object", "float16", "<U3", "complex128", "datetime64[ns]"])
def test_other_dtypes_are_refused_before_they_are_made(dtype):
    with pytest.raises(SchemaError, match="holds float32, float64, int64 or bool arrays; got"):
        from_plain({"dtype": dtype, "shape": [1], "values": [0]})


def test_shape_that_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match="reshape"):
        from_plain({"dtype": "float64", "shape": [3], "values": [0.0]})


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({}, "Thing.from_dict(): expected a 'Thing' record; got None"),
        ({"record": "Other", "schema_version": 1}, "expected a 'Thing' record; got 'Other'"),
        ({"record": "Thing"}, "schema version None is not readable; this gradreach reads 2"),
        ({"record": "Thing", "schema_version": 3}, "schema version 3 is not readable"),
        ({"record": "Thing", "schema_version": "2"}, "schema version '2' is not readable"),
    ],
)
def test_wrong_record_and_wrong_version_are_told(plain, message):
    with pytest.raises(SchemaError) as caught:
        check_schema(plain, "Thing", 2)

    assert message in str(caught.value)
    assert isinstance(caught.value, GradreachError)


def test_right_record_passes():
    check_schema({"record": "Thing", "schema_version": 2, "more": 1}, "Thing", 2)
