"""Great-circle distance on the sphere, as angles and as chords of the unit sphere.

Chords make nearest neighbours a Euclidean problem: the chord grows with the great-circle distance, so the order
is the same, and neither the antimeridian nor the poles are special.
"""

import numpy as np
from numpy.typing import ArrayLike

from lgsid_ray.arrays import Float64

EARTH_RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""


def haversine_km(lat_a: ArrayLike, lon_a: ArrayLike, lat_b: ArrayLike, lon_b: ArrayLike) -> Float64:
    """Great-circle distance in km between points in degrees; arguments broadcast."""
    phi_a, phi_b = np.radians(lat_a), np.radians(lat_b)
    half_lat = (phi_b - phi_a) / 2
    half_lon = (np.radians(lon_b) - np.radians(lon_a)) / 2
    square = np.sin(half_lat) ** 2 + np.cos(phi_a) * np.cos(phi_b) * np.sin(half_lon) ** 2
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(square, 0.0, 1.0))))


def unit_xyz(lat: ArrayLike, lon: ArrayLike) -> Float64:
    """Points on the unit sphere, shape (..., 3), of points in degrees."""
    phi, theta = np.radians(lat), np.radians(lon)
    return np.stack([np.cos(phi) * np.cos(theta), np.cos(phi) * np.sin(theta), np.sin(phi)], axis=-1)


def chord_to_km(chord: ArrayLike) -> Float64:
    """Great-circle distance in km of a unit-sphere chord."""
    return np.asarray(2 * EARTH_RADIUS_KM * np.arcsin(np.clip(np.asarray(chord) / 2, 0.0, 1.0)))


def km_to_chord(km: ArrayLike) -> Float64:
    """Unit-sphere chord of a great-circle distance in km; beyond half the circumference it stays at 2."""
    return np.asarray(2 * np.sin(np.clip(np.asarray(km) / (2 * EARTH_RADIUS_KM), 0.0, np.pi / 2)))
