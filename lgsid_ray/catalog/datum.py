"""GCJ-02 and BD-09 coordinates (Chinese maps) to WGS-84.

Both shift points inside China by some hundred metres: GCJ-02 by a published approximation of the official
obfuscation, BD-09 by a further rotation on top of it. Outside China both are WGS-84.
"""

import numpy as np
from numpy.typing import ArrayLike

from lgsid_ray.arrays import Bool, Float64

Degrees = tuple[Float64, Float64]

_AXIS, _ECCENTRICITY = 6378245.0, 0.00669342162296594323  # Krasovsky 1940, as GCJ-02 uses it


def to_wgs84(lat: ArrayLike, lon: ArrayLike, datum: str) -> Degrees:
    """(lat, lon) in WGS-84 degrees of points in `datum`: wgs84, gcj02 or bd09; exact to about a centimetre."""
    lat, lon = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    if datum == "wgs84":
        return lat, lon
    if datum == "bd09":
        lat, lon = _bd09_to_gcj02(lat, lon)
    return _invert(lat, lon)


def wgs84_to_gcj02(lat: ArrayLike, lon: ArrayLike) -> Degrees:
    """GCJ-02 degrees of WGS-84 points."""
    lat, lon = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    x, y = lon - 105.0, lat - 35.0
    d_lat = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * np.sqrt(np.abs(x)) + _waves(x)
    d_lat += _ripple(y, (20, 1), (40, 3)) + _ripple(y, (160, 12), (320, 30))
    d_lon = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * np.sqrt(np.abs(x)) + _waves(x)
    d_lon += _ripple(x, (20, 1), (40, 3)) + _ripple(x, (150, 12), (300, 30))
    radians = np.radians(lat)
    root = np.sqrt(1 - _ECCENTRICITY * np.sin(radians) ** 2)
    d_lat = np.degrees(d_lat * root**3 / (_AXIS * (1 - _ECCENTRICITY)))
    d_lon = np.degrees(d_lon * root / (_AXIS * np.cos(radians)))
    inside = _in_china(lat, lon)
    return np.where(inside, lat + d_lat, lat), np.where(inside, lon + d_lon, lon)


def gcj02_to_bd09(lat: ArrayLike, lon: ArrayLike) -> Degrees:
    """BD-09 degrees of GCJ-02 points."""
    lat, lon = np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64)
    turn = np.pi * 3000 / 180
    radius = np.hypot(lon, lat) + 0.00002 * np.sin(lat * turn)
    angle = np.arctan2(lat, lon) + 0.000003 * np.cos(lon * turn)
    inside = _in_china(lat, lon)
    return (
        np.where(inside, radius * np.sin(angle) + 0.006, lat),
        np.where(inside, radius * np.cos(angle) + 0.0065, lon),
    )


def _bd09_to_gcj02(lat: Float64, lon: Float64) -> Degrees:
    return _fixed_point(gcj02_to_bd09, lat, lon)


def _invert(lat: Float64, lon: Float64) -> Degrees:
    return _fixed_point(wgs84_to_gcj02, lat, lon)


def _fixed_point(forward: object, lat: Float64, lon: Float64) -> Degrees:
    """The point that `forward` maps to (lat, lon): the shift is nearly constant, so a few rounds settle it."""
    guess_lat, guess_lon = lat, lon
    for _ in range(6):
        there_lat, there_lon = forward(guess_lat, guess_lon)  # type: ignore[operator]
        guess_lat, guess_lon = guess_lat + lat - there_lat, guess_lon + lon - there_lon
    return guess_lat, guess_lon


def _waves(x: Float64) -> Float64:
    return (20 * np.sin(6 * x * np.pi) + 20 * np.sin(2 * x * np.pi)) * 2 / 3


def _ripple(x: Float64, *terms: tuple[int, int]) -> Float64:
    return sum((size * np.sin(x * np.pi / length) for size, length in terms), np.zeros_like(x)) * 2 / 3


def _in_china(lat: Float64, lon: Float64) -> Bool:
    return (lon >= 72.004) & (lon <= 137.8347) & (lat >= 0.8293) & (lat <= 55.8271)
