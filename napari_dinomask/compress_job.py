"""A study of compressed models followed from a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tifffile

from dinomask.compress.job import IMAGES_FOLDER, WORK, StudyJob, jobs_folder, list_jobs
from napari_dinomask.follower import Follower, free_folder, latest_unseen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dinomask.compress.choose import Study
    from dinomask.image.source import Image

    Open = Callable[[], Image]
    Resolve = Callable[[Sequence[Path]], Study]


class StudyFollower(Follower):
    """Starts studies and follows one at a time.

    Attributes
    ----------
    work : what the process of a job does, as ``module:function``
    """

    def __init__(self) -> None:
        super().__init__("dinomask-compress")
        self.work = WORK

    def look_for_unfinished(self) -> None:
        """Take up the latest job whose end the user has not seen."""
        self._tasks.put(self._take_up_unseen)

    def start(self, resolve: Resolve, open_all: Sequence[Open], place: Path | None = None) -> None:
        """Start a study.

        Parameters
        ----------
        resolve : returns what to do, from the places of the images; called in the thread
        open_all : images of the viewer, opened in the thread and written beside the job
        place : a folder of images instead
        """

        def begin() -> StudyJob | None:
            folder = free_folder(jobs_folder(), "comparison")
            places = [place] if place is not None else []
            if place is None and open_all:
                places = [write_images(open_all, folder / IMAGES_FOLDER)]
            study = resolve(places)
            return None if self._stopped else StudyJob.start(study, folder, work=self.work)

        self._start(begin)

    def _take_up_unseen(self) -> None:
        folder = latest_unseen(list_jobs())
        if folder is not None:
            self._follow(StudyJob.attach(folder, work=self.work))


def write_images(open_all: Sequence[Open], folder: Path) -> Path:
    """Write images as TIFF, for a process that knows no layers; return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, open_one in enumerate(open_all):
        image = open_one()
        pixels = image.read((0, 0, *image.shape_yx))
        path = folder / f"image-{number}.tif"
        if image.is_rgb:
            tifffile.imwrite(path, np.moveaxis(pixels, 0, -1), photometric="rgb")
        elif len(pixels) == 1:
            tifffile.imwrite(path, pixels[0])
        else:
            tifffile.imwrite(path, pixels, metadata={"axes": "CYX"}, photometric="minisblack")
    return folder
