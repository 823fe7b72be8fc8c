"""Parts of the compression benchmark."""
