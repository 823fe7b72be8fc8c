"""Settings of movies and stacks, which are segmented plane by plane."""

from __future__ import annotations

import dataclasses

from dinomask.config.checks import require

LINK_IOU = 0.3
"""IoU to begin with where planes are to be linked."""


@dataclasses.dataclass(frozen=True)
class PlanesConfig:
    """What becomes of the objects of neighbouring planes."""

    stitch_z: float | None = None
    """Link objects of neighbouring planes that overlap by at least this IoU, above 0 up to 1:
    through Z into 3-D objects, or through T into tracks where there is no Z. None leaves every
    plane by itself."""

    bridge: bool = False
    """Also link across one plane in which an object was missed."""

    def __post_init__(self) -> None:
        require(
            self.stitch_z is None or 0 < self.stitch_z <= 1,
            "an IoU above 0 and up to 1 to link planes",
            self.stitch_z,
            f"Use {LINK_IOU:g}; lower where planes are far apart, higher where objects touch.",
        )
        require(
            self.stitch_z is not None or not self.bridge,
            "planes that are linked, to bridge a missing one",
            "bridge without stitch_z",
            f"Add --stitch-z {LINK_IOU:g}.",
        )
