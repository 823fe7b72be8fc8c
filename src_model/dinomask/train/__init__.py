"""Fitting models to annotated images."""
