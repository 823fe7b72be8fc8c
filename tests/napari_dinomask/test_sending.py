"""Signals to a window that may be gone."""

from __future__ import annotations

import pytest
from qtpy.QtCore import QCoreApplication, QEvent, QObject, Signal

from napari_dinomask.sending import window_may_be_gone


class _Teller(QObject):
    said = Signal(int, str)


def test_a_signal_is_heard_until_its_object_is_deleted(qapp: QCoreApplication) -> None:
    teller, heard = _Teller(), []
    teller.said.connect(lambda number, word: heard.append((number, word)))
    with window_may_be_gone():
        teller.said.emit(3, "cells")
    assert heard == [(3, "cells")]
    teller.deleteLater()
    QCoreApplication.sendPostedEvents(teller, QEvent.Type.DeferredDelete)
    with pytest.raises(RuntimeError):
        teller.said.emit(4, "more")
    with window_may_be_gone():
        teller.said.emit(4, "more")
    assert heard == [(3, "cells")]
