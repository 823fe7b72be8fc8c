"""How settings refuse what is outside their range."""

from __future__ import annotations

from dinomask.errors import SettingsError


def require(ok: bool, expected: str, got: object, remedy: str) -> None:
    """Raise `SettingsError` unless a setting is in its range."""
    if not ok:
        raise SettingsError(expected=expected, got=f"{got!r}", remedy=remedy)
