"""The usual spectral indices by name. Their formulas are spyndex's, see :func:`calculate_spectral_index`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darts_preprocessing.spectral import calculate_spectral_index

if TYPE_CHECKING:
    import xarray as xr


def calculate_arvi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``arvi``, the atmospherically resistant vegetation index.

    (nir − (red − γ (red − blue))) / (nir + (red − γ (red − blue))). Constants: ``gamma``.
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "arvi", **constants)


def calculate_bndvi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``bndvi``, the blue normalized difference vegetation index.

    (nir − blue) / (nir + blue).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "bndvi")


def calculate_evi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``evi``, the enhanced vegetation index.

    g (nir − red) / (nir + C1 red − C2 blue + L). Constants: ``g``, ``C1``, ``C2`` and ``L``.
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "evi", **constants)


def calculate_evi2(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``evi2``, the two-band enhanced vegetation index.

    g (nir − red) / (nir + 2.4 red + L). Constants: ``g`` and ``L``.
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "evi2", **constants)


def calculate_exg(ds: xr.Dataset) -> xr.Dataset:
    """Add ``exg``, the excess green index.

    2 green − red − blue.
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "exg")


def calculate_gemi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``gemi``, the global environment monitoring index.

    η (1 − η / 4) − (red − 0.125) / (1 − red), where η = (2 (nir² − red²) + 1.5 nir + 0.5 red) / (nir + red + 0.5).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "gemi")


def calculate_gli(ds: xr.Dataset) -> xr.Dataset:
    """Add ``gli``, the green leaf index.

    (2 green − red − blue) / (2 green + red + blue).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "gli")


def calculate_gndvi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``gndvi``, the green normalized difference vegetation index.

    (nir − green) / (nir + green).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "gndvi")


def calculate_grvi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``grvi``, the green ratio vegetation index.

    nir / green.
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "grvi")


def calculate_msavi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``msavi``, the modified soil-adjusted vegetation index.

    (2 nir + 1 − √((2 nir + 1)² − 8 (nir − red))) / 2.
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "msavi")


def calculate_ndwi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``ndwi``, the normalized difference water index.

    (green − nir) / (green + nir).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "ndwi")


def calculate_ngrdi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``ngrdi``, the normalized green red difference index.

    (green − red) / (green + red).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "ngrdi")


def calculate_osavi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``osavi``, the optimized soil-adjusted vegetation index.

    (nir − red) / (nir + red + 0.16).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "osavi")


def calculate_savi(ds: xr.Dataset, **constants: float) -> xr.Dataset:
    """Add ``savi``, the soil-adjusted vegetation index.

    (1 + L) (nir − red) / (nir + red + L). Constants: ``L``, 0.5 unless given (Huete 1988,
    doi:10.1016/0034-4257(88)90106-X).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "savi", **({"L": 0.5} | constants))


def calculate_sr(ds: xr.Dataset) -> xr.Dataset:
    """Add ``sr``, the simple ratio.

    nir / red.
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "sr")


def calculate_tgi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``tgi``, the triangular greenness index.

    −(190 (red − green) − 120 (red − blue)) / 2.
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "tgi")


def calculate_tvi(ds: xr.Dataset) -> xr.Dataset:
    """Add ``tvi``, the transformed vegetation index.

    √((nir − red) / (nir + red) + 0.5).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "tvi")


def calculate_vari(ds: xr.Dataset) -> xr.Dataset:
    """Add ``vari``, the visible atmospherically resistant index.

    (green − red) / (green + red − blue).
    Bands, result and errors: see :func:`calculate_spectral_index`.
    """
    return calculate_spectral_index(ds, "vari")
