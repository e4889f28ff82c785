"""Keras is refused at once, in one sentence with the way out."""

from __future__ import annotations

import pytest

from gradreach.errors import NotMeasurableError
from gradreach.integrations.keras import WatchCallback


@pytest.mark.parametrize("options", [{}, {"run": "runs/a", "every": 10}])
def test_keras_is_refused(options):
    with pytest.raises(NotMeasurableError, match=r"Keras .* train the same network with torch.nn"):
        WatchCallback(**options)
