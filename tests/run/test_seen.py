"""How much looks at several scales show, and which is believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dinomask.run.seen import Seen, choose


def _seen(guess_px: float, *diameters_px: float, score: float = 0.8) -> Seen:
    diameters = np.array(diameters_px, np.float64)
    return Seen(guess_px, diameters, np.full(len(diameters), score), 1)


@given(
    diameters=st.lists(st.floats(2, 200), min_size=1, max_size=9),
    guess=st.floats(5, 150),
    zoom=st.floats(0.1, 10),
)
def test_evidence_does_not_depend_on_the_magnification(diameters, guess, zoom):
    seen = _seen(guess, *diameters)
    magnified = _seen(guess * zoom, *(d * zoom for d in diameters))
    assert magnified.evidence == pytest.approx(seen.evidence)
    # at best as many as there are
    assert seen.evidence <= 0.64 * len(diameters) + 1e-9
    assert _seen(guess, *[guess] * 5).evidence == pytest.approx(5 * 0.64)


def test_what_two_finer_looks_agree_on_is_preferred_to_what_is_around_it():
    cells = _seen(130, *[120] * 10)
    nuclei = _seen(30, 22, 22, 22), _seen(14, 20, 20, 20)
    assert choose([*nuclei, cells]) is nuclei[0]
    # grain has another size at every scale, and parts are not far smaller
    grain = _seen(30, 28, 28, 28), _seen(14, 13, 13, 13)
    assert choose([*grain, cells]) is cells
    halves = _seen(64, 60, 60, 60), _seen(30, 58, 58, 58)
    assert choose([*halves, cells]) is cells
    assert choose([_seen(30)]).median_px is None
    # of many sure objects what lies inside is texture
    particles = _seen(130, *[120] * 14)
    assert choose([*nuclei, particles]) is particles
