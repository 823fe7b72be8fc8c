"""Generated training images: random scenes with the labels they were drawn from.

They widen the domain of a model beyond the annotated images at hand: shapes
(`shapes`), arrangements (`layouts`) and appearances (`cells`, `tissue`) are combined at random.
"""

from dinomask.train.generate.compose import (
    KINDS,
    GeneratedImage,
    describe_generated,
    generate_image,
)

__all__ = ["KINDS", "GeneratedImage", "describe_generated", "generate_image"]
