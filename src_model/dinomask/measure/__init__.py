"""How good a segmentation is, against a reference. No torch."""
