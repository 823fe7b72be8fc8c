"""Parts of the side-by-side comparison in ``accuracy.py``."""
