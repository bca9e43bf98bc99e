"""Student's t distribution, for any number of degrees of freedom of at least 1."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

# The density is smooth, and so are 64 points exact to 1e-9 wherever a quantile of ours lies.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(64)


def cdf(t: float, degrees: float) -> float:
    """How often a t variable is at most `t`.

    With t = sqrt(degrees) * tan(angle), the density is a power of the cosine, and the interval that is integrated over
    is finite.

    Args:
        t: Any number, also an infinite one.
        degrees: At least 1; infinite means the normal distribution.
    """
    if math.isinf(degrees):
        return NormalDist().cdf(t)
    angle = math.atan(t / math.sqrt(degrees))
    integral = angle / 2 * float(_WEIGHTS @ np.cos(angle / 2 * (_POINTS + 1)) ** (degrees - 1))
    return min(max(0.5 + _height(degrees) * math.sqrt(degrees) * integral, 0.0), 1.0)


def quantile(probability: float, degrees: float) -> float:
    """The t that a variable is below with this probability.

    Args:
        probability: In (0, 1).
        degrees: At least 1; infinite means the normal distribution.
    """
    if probability < 0.5:
        return -quantile(1 - probability, degrees)
    t = NormalDist().inv_cdf(probability)
    if math.isinf(degrees):
        return t
    # Newton's steps: right of 0 the distribution is concave and the normal quantile is too small, so none overshoots.
    for _ in range(100):
        density = _height(degrees) * math.exp(-(degrees + 1) / 2 * math.log1p(t * t / degrees))
        step = (probability - cdf(t, degrees)) / density
        t += step
        if abs(step) <= 1e-12 * t:
            break
    return t


def _height(degrees: float) -> float:
    """The density at 0."""
    return math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
