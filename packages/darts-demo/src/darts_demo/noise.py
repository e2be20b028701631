"""Random fields with the look of nature: smooth or fractal, the same for the same generator state."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Field = NDArray[np.float32]
_MOST_DOUBLINGS = 3


def _double_rows(field: Field) -> Field:
    """Refine the rows of a cubic B-spline surface by two (Lane and Riesenfeld 1980)."""
    rows = field.shape[0]
    fine = np.empty((2 * rows - 2, *field.shape[1:]), dtype=np.float32)
    fine[0::2] = (field[:-1] + field[1:]) * np.float32(0.5)
    fine[1:-1:2] = (field[:-2] + field[2:]) * np.float32(0.125) + field[1:-1] * np.float32(0.75)
    fine[-1] = fine[-2]
    return fine


def double(field: Field) -> Field:
    """Return a surface with twice the resolution, smooth as a cubic B-spline; it loses one coarse cell per side.

    Args:
        field: (rows, columns) float32.

    Returns:
        (2 rows − 2, 2 columns − 2) float32.
    """
    return np.ascontiguousarray(_double_rows(np.ascontiguousarray(_double_rows(field).T)).T)


def _spectral(rng: np.random.Generator, shape: tuple[int, int], longest: float, shortest: float, hurst: float) -> Field:
    """Filter white noise to the power spectrum ``k ** −(2 hurst + 2)`` between two wavelengths; deviation 1."""
    padded = tuple(fft.next_fast_len(n + round(min(longest, n)), real=True) for n in shape)
    spectrum = fft.rfft2(rng.standard_normal(padded, dtype=np.float32))
    k = np.hypot(fft.fftfreq(padded[0])[:, None], fft.rfftfreq(padded[1])[None, :]) * longest
    gain = np.where(k > 0, np.maximum(k, 1.0) ** -(hurst + 1), 0) * np.exp(-((k * shortest / longest) ** 2))
    field = fft.irfft2(spectrum * gain.astype(np.float32), s=padded)[: shape[0], : shape[1]]
    return (field / max(float(field.std()), 1e-9)).astype(np.float32)


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], longest: float, shortest: float = 1.0, hurst: float = 0.8
) -> Field:
    """Make fractional noise between two wavelengths, with mean 0 and standard deviation 1.

    Long waves come from a power-law spectrum on a coarse grid, which keeps them free of directions. Short waves are
    added by refining it (after Fournier, Fussell and Carpenter 1982): each doubling of the resolution adds white noise
    whose amplitude shrinks by ``2 ** -hurst``.

    Args:
        rng: Where the randomness comes from.
        shape: Rows and columns of the result, in cells.
        longest: Longest wavelength, in cells.
        shortest: Below this wavelength (cells) the field is smooth.
        hurst: Roughness: near 1 smooth hills, near 0 rough texture.

    Returns:
        `shape` float32.
    """
    levels = int(np.clip(np.floor(np.log2(max(longest, 1.0) / 6.0)), 0, _MOST_DOUBLINGS))
    scale = 2**levels
    rows, columns = (-(-n // scale) + 6 for n in shape)
    field = _spectral(rng, (rows, columns), longest / scale, max(shortest / scale, 1.0), hurst)
    octaves = np.log2(max(longest / scale / 2.0, 1.0))
    first = np.sqrt(1 - 2.0 ** (-2 * hurst))
    for level in range(levels):
        field = double(field)
        if 2 ** (levels - level) >= shortest:
            amplitude = first * 2.0 ** (-hurst * (octaves + level + 1))
            field += np.float32(amplitude) * rng.standard_normal(field.shape, dtype=np.float32)
    top, left = ((have - want) // 2 for have, want in zip(field.shape, shape, strict=True))
    field = field[top : top + shape[0], left : left + shape[1]]
    return np.ascontiguousarray((field - field.mean()) / max(float(field.std()), 1e-9), dtype=np.float32)


def wave(rng: np.random.Generator, positions: NDArray[np.float64], longest: float, hurst: float = 0.8) -> Field:
    """Make one-dimensional fractional noise at given positions, within about −2…2.

    Args:
        rng: Where the randomness comes from.
        positions: Any shape, metres.
        longest: Longest wavelength, metres.
        hurst: Roughness, see :func:`fractal`.

    Returns:
        Float32 of the shape of `positions`.
    """
    total = np.zeros(positions.shape, dtype=np.float32)
    for octave in range(4):
        phase, stretch = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.25)
        amplitude = 2.0 ** (-hurst * octave)
        total += (amplitude * np.sin(2 * np.pi * stretch * 2**octave / longest * positions + phase)).astype(np.float32)
    return total


def smoothstep(values: NDArray[np.floating], low: float, high: float) -> Field:
    """Rise smoothly from 0 at `low` to 1 at `high` (Perlin's cubic); `low` may lie above `high`."""
    t = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    return t * t * (3 - 2 * t)
