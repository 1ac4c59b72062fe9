"""Random numbers that are the same on every machine and with every version of NumPy.

NumPy promises that the raw bits of its bit generators never change, but not what
:class:`numpy.random.Generator` makes of them. So everything here is made from the raw bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Raw = NDArray[np.uint64]


class Draws:
    """One stream of random numbers: number ``chunk`` of ``seed``."""

    def __init__(self, seed: int, chunk: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence((seed, chunk)))

    def raw(self, *shape: int) -> Raw:
        """64 random bits each."""
        return self._bits.random_raw(int(np.prod(shape))).reshape(shape)

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Uniform in [0, 1)."""
        return (self.raw(*shape) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def below(self, high: int | NDArray[np.int64], *shape: int) -> NDArray[np.int64]:
        """Uniform integers in 0..high-1."""
        return below(high, self.raw(*shape))


def below(high: int | NDArray[np.int64], raw: Raw) -> NDArray[np.int64]:
    """Uniform integers in 0..high-1 from the lower half of each draw (bias below high / 2^32)."""
    lower = raw & np.uint64(0xFFFFFFFF)
    return ((lower * np.asarray(high, np.uint64)) >> np.uint64(32)).astype(np.int64)
