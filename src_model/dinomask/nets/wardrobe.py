"""Switch between the adapters of one checkpoint without loading it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dinomask.nets.adapters import put_on, touched_weights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from dinomask.nets.adapter_manifest import AdapterManifest
    from dinomask.nets.catalogue import Manifest
    from dinomask.nets.centermask import CenterMask


class Wardrobe:
    """A checkpoint in memory that wears one adapter at a time, or none.

    Only the weights that an adapter changes are kept twice, and taking it off
    brings them back to the last bit.

    Parameters
    ----------
    model : as loaded from the checkpoint, on any device; changed in place from now on
    base : the checkpoint's manifest

    Attributes
    ----------
    model : what to predict with now, plain and merged; an adapter with further
        classes makes it another object around the same backbone
    worn : the adapter that is on; None for the bare checkpoint
    """

    def __init__(self, model: CenterMask, base: Manifest) -> None:
        self.model = model
        self.worn: AdapterManifest | None = None
        self._bare = model
        self._base = base
        self._config = model.config
        self._kept: dict[str, Tensor] = {}

    def wear(self, folder: Path | None) -> CenterMask:
        """Put on another adapter, or take off the one that is on; return the model.

        Parameters
        ----------
        folder : of the adapter; None for the bare checkpoint

        Raises
        ------
        ModelError
            If it belongs to another checkpoint, or is damaged; the checkpoint is
            bare then.
        """
        self._take_off()
        if folder is not None:
            state = self._bare.state_dict()
            names = touched_weights(folder)
            self._kept = {n: state[n].clone() for n in names if n in state}
            try:
                self.model, self.worn = put_on(self._bare, self._base, folder)
            except BaseException:
                self._take_off()
                raise
        return self.model

    @torch.no_grad()
    def _take_off(self) -> None:
        state = self._bare.state_dict()
        for name, value in self._kept.items():
            state[name].copy_(value)
        self._kept = {}
        self._bare.config = self._config
        self.model, self.worn = self._bare, None
