"""Auxiliary data, around a tile from datacubes that fill as they are used, and the periods of TCVIS."""

TRENDS = {
    "2000-2019": "users/ingmarnitze/TCTrend_SR_2000-2019_TCVIS",
    "2001-2020": "users/ingmarnitze/TCTrend_SR_2001-2020_TCVIS",
    "2003-2022": "users/ingmarnitze/TCTrend_SR_2003-2022_TCVIS",
    "2005-2024": "projects/ee-ingmarnitze/assets/TCTrend_SR_2005-2024_TCVIS",
}
"""Periods for which the trends are published, the earliest first, and Earth Engine's name of each collection."""
