"""The features, one file each: what is defined here is found by :data:`darts_preprocessing.FEATURES`."""
