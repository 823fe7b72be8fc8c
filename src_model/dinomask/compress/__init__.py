"""Smaller and faster models: methods, what they work on, and the pipeline that runs them."""
