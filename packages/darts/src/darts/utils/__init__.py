"""Modules of the original's ``darts.utils`` that scripts import; nothing here uses them."""
