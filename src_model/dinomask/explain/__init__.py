"""Look inside a model: attention, heat maps, features, statistics."""
