"""The one segmentation path that napari, the command line and Python share."""
