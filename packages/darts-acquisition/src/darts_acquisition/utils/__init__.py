"""Modules of the original's ``darts_acquisition.utils`` that scripts import; nothing here uses them."""
