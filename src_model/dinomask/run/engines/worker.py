"""What runs in a process of the engine `processes`."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from dinomask.errors import DinomaskError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from dinomask.run.engines.job import Job

READY = "ready"
"""What a worker says when it has loaded the model of a job."""


def serve(connection: Connection) -> None:
    """Work through jobs until the connection ends.

    A job comes as bytes, then lists of tiles, then None. Each tile's result is
    sent back as it is done; an error ends the job and is sent instead.
    """
    # Ctrl-C reaches every process of a terminal; the one that leads decides
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()
    # the leading process has gone, or doesn't want to hear any more
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            try:
                # imported with the first job, so that SIGINT is ignored within milliseconds
                _do(pickle.loads(connection.recv_bytes()), connection)
            except DinomaskError as error:
                connection.send(error)
                return


def _do(job: Job, connection: Connection) -> None:
    from dinomask.run.engines.job import load_predictor
    from dinomask.run.engines.tile_work import predict

    predictor = load_predictor(job)
    connection.send(READY)
    for result in predict(job.work, predictor, _tiles(connection), _nothing):
        connection.send(result)


def _tiles(connection: Connection) -> Iterator[int | None]:
    while (tiles := connection.recv()) is not None:
        yield from tiles
        # the next list may never come
        yield None


def _nothing() -> None:
    """Workers are stopped from outside."""


def die_with_parent() -> None:
    """End this process when the one that started it ends, however it does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
