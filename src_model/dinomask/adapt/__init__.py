"""Adapters: small changes on top of one checkpoint, learned from a user's corrections."""
