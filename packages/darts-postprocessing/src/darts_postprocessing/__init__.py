"""From probabilities to clean objects: mask erosion and binarisation."""
