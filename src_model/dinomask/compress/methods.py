"""Every compression method by name; command line, panel and docs derive from this list.

No torch here. A method is added with a row, a class of settings in
`dinomask.config.compress` if it has any, and an object with the two functions of
`dinomask.compress.method.Implementation`; ``tests/contracts/test_compression.py``
then runs it.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from dinomask.compress.method import Method, Stage
from dinomask.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

METHODS = (
    Method(
        "merge",
        "Add the adapter's LoRA matrices to the weights (Hu et al., arXiv 2106.09685)",
        Stage.MERGE,
        "dinomask.compress.precision:MERGE",
        changes_model=False,
        gain="One checkpoint instead of two; costs nothing when segmenting.",
    ),
    Method(
        "bf16",
        "Compute matrix products in bfloat16",
        Stage.QUANTISE,
        "dinomask.compress.precision:BF16",
        changes_model=False,
        gain="Faster on CUDA and on CPUs with matrix units (AMX); slower on other CPUs.",
    ),
    Method(
        "fp16",
        "Compute matrix products in half precision",
        Stage.QUANTISE,
        "dinomask.compress.precision:FP16",
        changes_model=False,
        gain="Faster on CUDA. Files hold half precision in any case.",
    ),
)
"""In the order of their stages."""


def find_methods(names: Iterable[str]) -> list[Method]:
    """Return methods by their names, in the order in which they are applied.

    Raises
    ------
    SettingsError
        If there is none, one is unknown or named twice.
    """
    known = {method.name: method for method in METHODS}
    chosen: list[Method] = []
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            guess = f"Did you mean {close[0]}? " if close else ""
            raise SettingsError(
                expected="the name of a compression method",
                got=f"{name!r}",
                remedy=f"{guess}Methods: {', '.join(known)}.",
            )
        if known[name] in chosen:
            raise SettingsError(
                expected="each method once",
                got=f"{name} twice",
                remedy="Name it once; a stronger effect is a matter of its settings.",
            )
        chosen.append(known[name])
    if not chosen:
        raise SettingsError(
            expected="at least one compression method",
            got="none",
            remedy=f"Choose among {', '.join(known)}.",
        )
    # stable: methods of one stage stay in the order in which they were named
    return sorted(chosen, key=lambda method: method.stage)
