"""Modules of the original's ``darts_preprocessing.engineering`` that scripts import; nothing here uses them."""
