"""DINOmask in napari: segment cells, correct a few, teach the model."""
