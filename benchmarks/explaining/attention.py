"""Attention of one tile of 448 px against the plain forward of the same tile, in turns."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dinomask.config import SegmentConfig
from dinomask.explain.attention import attention_of
from dinomask.explain.heads import heads_of, look_inside
from dinomask.explain.missed import why_missed
from dinomask.explain.proposed import proposals_of
from dinomask.explain.seen import SeenImage
from dinomask.image import open_image
from dinomask.train.generate import generate_image

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE_PX = 448
ROUNDS = 9


def measure() -> list[dict[str, Any]]:
    """Time each step of looking inside one tile of the tiny model, on one thread."""
    config = SegmentConfig(diameter_px=32.0, device="cpu", threads=1, precision="fp32")
    made = generate_image(np.random.default_rng(5), "fluorescent nuclei", SIDE_PX)
    seen = SeenImage.of(open_image(made.image_cyx, axes="cyx", channels=(0,)), config)
    tile = seen.plan[0]
    point = (SIDE_PX / 2, SIDE_PX / 2)
    attention = attention_of(seen, tile)
    heads = heads_of(seen, tile)
    n_layers = attention.n_layers
    proposals = proposals_of(heads, config.detect)

    @torch.inference_mode()
    def plain() -> None:
        seen.predictor.model.backbone_maps(seen.read(tile))

    def with_attention() -> None:
        found = attention_of(seen, tile)
        for layer in range(n_layers):
            found.look(layer, "class")

    steps: dict[str, Callable[[], object]] = {
        "plain forward of the backbone": plain,
        "attention, class token, all layers": with_attention,
        "plain forward of backbone and detector": lambda: heads_of(seen, tile),
        "attention and the detector's maps": lambda: look_inside(seen, tile),
        "another layer, from a point": lambda: attention.look(3, point),
        "rollout through all layers": lambda: attention.rollout(-1, point),
        "entropy and distance of a layer's heads": lambda: attention.figures_of(3),
        "why missed, first click in a tile": lambda: proposals_of(heads, config.detect),
        "why missed, further clicks": lambda: why_missed(heads, point, config.detect, proposals),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(ROUNDS):
        # in turns, so that whatever else the machine does falls on all of them
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(1000 * (time.perf_counter() - began))
    forward = times["plain forward of the backbone"]
    return [
        {
            "step": name,
            "ms": statistics.median(found),
            "× plain forward": statistics.median(
                a / b for a, b in zip(found, forward, strict=True)
            ),
        }
        for name, found in times.items()
    ]
