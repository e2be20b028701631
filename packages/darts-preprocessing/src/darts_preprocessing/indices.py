"""The usual spectral indices by name; the formulas are spyndex's, see :func:`calculate_spectral_index`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darts_preprocessing.spectral import calculate_spectral_index

if TYPE_CHECKING:
    import xarray as xr


def calculate_arvi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``arvi``, the atmospherically resistant vegetation index: (nir − (red − γ (red − blue))) / (nir + (red − γ (red − blue))). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "arvi", **constants)


def calculate_bndvi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``bndvi``, the blue normalized difference vegetation index: (nir − blue) / (nir + blue). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "bndvi", **constants)


def calculate_evi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``evi``, the enhanced vegetation index: g (nir − red) / (nir + C1 red − C2 blue + L). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "evi", **constants)


def calculate_evi2(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``evi2``, the two-band enhanced vegetation index: g (nir − red) / (nir + 2.4 red + L). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "evi2", **constants)


def calculate_exg(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``exg``, the excess green index: 2 green − red − blue. See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "exg", **constants)


def calculate_gemi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``gemi``, the global environment monitoring index: η (1 − η / 4) − (red − 0.125) / (1 − red), where η = (2 (nir² − red²) + 1.5 nir + 0.5 red) / (nir + red + 0.5). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "gemi", **constants)


def calculate_gli(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``gli``, the green leaf index: (2 green − red − blue) / (2 green + red + blue). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "gli", **constants)


def calculate_gndvi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``gndvi``, the green normalized difference vegetation index: (nir − green) / (nir + green). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "gndvi", **constants)


def calculate_grvi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``grvi``, the green ratio vegetation index: nir / green. See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "grvi", **constants)


def calculate_msavi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``msavi``, the modified soil-adjusted vegetation index: (2 nir + 1 − √((2 nir + 1)² − 8 (nir − red))) / 2. See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "msavi", **constants)


def calculate_ndwi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``ndwi``, the normalized difference water index: (green − nir) / (green + nir). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "ndwi", **constants)


def calculate_ngrdi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``ngrdi``, the normalized green red difference index: (green − red) / (green + red). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "ngrdi", **constants)


def calculate_osavi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``osavi``, the optimized soil-adjusted vegetation index: (nir − red) / (nir + red + 0.16). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "osavi", **constants)


def calculate_savi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``savi``, the soil-adjusted vegetation index: (1 + L) (nir − red) / (nir + red + L). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "savi", **constants)


def calculate_sr(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``sr``, the simple ratio: nir / red. See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "sr", **constants)


def calculate_tgi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``tgi``, the triangular greenness index: −(190 (red − green) − 120 (red − blue)) / 2. See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "tgi", **constants)


def calculate_tvi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``tvi``, the transformed vegetation index: √((nir − red) / (nir + red) + 0.5). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "tvi", **constants)


def calculate_vari(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``vari``, the visible atmospherically resistant index: (green − red) / (green + red − blue). See :func:`calculate_spectral_index`."""
    return calculate_spectral_index(ds, "vari", **constants)
