"""A data file is what it says it is, or it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradreach.errors import GradreachError
from gradreach.tasks import real_data
from gradreach.tasks.real_data import DIGITS, SUNSPOTS, load_digits


def test_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()

    images, digits = load_digits()

    np.testing.assert_array_equal(images * 16, theirs.images)
    np.testing.assert_array_equal(digits, theirs.target)


def test_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / SUNSPOTS.name).write_bytes(SUNSPOTS.read().replace(b"1701,11", b"1701,12"))
    monkeypatch.setattr(real_data, "FOLDER", tmp_path)

    with pytest.raises(
        GradreachError, match=r"sunspots.csv .* should have SHA-256 f67889b1d9002cd5…"
    ):
        SUNSPOTS.read()


def test_missing_file_is_named() -> None:
    with pytest.raises(GradreachError, match=r"nowhere.csv of gradreach could not be read"):
        replace(DIGITS, name="nowhere.csv").read()
