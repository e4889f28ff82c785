"""The real data that come with the package: where each file is from, and that it is unharmed."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradreach.errors import GradreachError

__all__ = ["CO2", "DIGITS", "SUNSPOTS", "DataFile", "DataFileError", "load_digits"]

FOLDER = Path(__file__).with_name("data")


class DataFileError(GradreachError):
    """A data file of the package is missing or is not the one it should be."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file, its source and its terms; see also data/README.md.

    Example:
        >>> SUNSPOTS.source
        'statsmodels 0.15.0, statsmodels/datasets/sunspots'
        >>> SUNSPOTS.read().splitlines()[:2]
        [b'"YEAR","SUNACTIVITY"', b'1700,5']
    """

    name: str
    source: str
    terms: str
    sha256: str

    def read(self) -> bytes:
        """Return what is in the file, unpacked.

        Raises:
            DataFileError: The file is missing, or its SHA-256 is another.
        """
        path = FOLDER / self.name
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise DataFileError(
                f"data file {self.name} of gradreach could not be read ({error.strerror}): "
                "install gradreach again"
            ) from error
        found = hashlib.sha256(raw).hexdigest()
        if found != self.sha256:
            raise DataFileError(
                f"data file {self.name} of gradreach should have SHA-256 {self.sha256[:16]}…, got "
                f"{found[:16]}…: it was changed, so install gradreach again"
            )
        return gzip.decompress(raw) if path.suffix == ".gz" else raw


DIGITS = DataFile(
    "digits.csv.gz",
    "scikit-learn 1.9.1, sklearn/datasets/data; UCI Optical Recognition of Handwritten Digits",
    "CC BY 4.0",
    "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
)
SUNSPOTS = DataFile(
    "sunspots.csv",
    "statsmodels 0.15.0, statsmodels/datasets/sunspots",
    "public domain",
    "f67889b1d9002cd5227f0e0ef54e35b419cdd85a31279adef6f73fb41e5c0a9b",
)
CO2 = DataFile(
    "co2.csv",
    "statsmodels 0.15.0, statsmodels/datasets/co2; Keeling & Whorf 2004, Mauna Loa",
    "public domain",
    "16695fa2786e53414e5a6b54767a3fdf5de99cfbc68617f69d1362d92776a92f",
)


@cache
def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return 1,797 images of 8 × 8 pixels in [0, 1], and which digit each is.

    They come in the order of their writers, so the last ones are by other hands than the first.

    Raises:
        DataFileError: The file is missing or changed.

    Example:
        >>> images, digits = load_digits()
        >>> images.shape, digits[:5], float(images.max())
        ((1797, 8, 8), array([0, 1, 2, 3, 4]), 1.0)
    """
    lines = DIGITS.read().decode("ascii").split()
    numbers = np.array([line.split(",") for line in lines], dtype=np.float64)
    images = (numbers[:, :64] / 16).astype(np.float32).reshape(-1, 8, 8)
    digits = numbers[:, 64].astype(np.int64)
    for array in (images, digits):
        array.flags.writeable = False  # all callers share them
    return images, digits
