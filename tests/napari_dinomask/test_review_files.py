"""What a review leaves behind for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from dinomask.adapt import corrections
from dinomask.adapt.journal import Journal, journal_path, pixel_identity
from dinomask.adapt.label_store import ArrayStore
from dinomask.image import open_image
from dinomask.project import read_project, replay, taught_from_project
from napari_dinomask.review_files import (
    first_labels_path,
    keep_classes,
    keep_first,
    keep_project,
    known_classes,
)
from tests.train.scenes import disc_labels, image_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("n_planes", [1, 3])
def test_a_review_can_be_learned_from_and_replayed(tmp_path: Path, n_planes: int) -> None:
    planes = [disc_labels(6, 96, 8, seed) for seed in range(n_planes)]
    pixels = np.stack([image_of(plane) for plane in planes])
    axes = "YX" if n_planes == 1 else "ZYX"
    tifffile.imwrite(
        tmp_path / "cells.ome.tif",
        pixels[0] if n_planes == 1 else pixels,
        metadata={"axes": axes},
    )
    image = open_image(tmp_path / "cells.ome.tif", plane={} if n_planes == 1 else {"z": 1})
    labels = planes[0].astype(np.int32) if n_planes == 1 else np.stack(planes).astype(np.int32)
    plane = () if n_planes == 1 else (1,)
    journal_file = journal_path(tmp_path / "cells_labels.tif")
    keep_first(first_labels_path(journal_file), labels)
    store = ArrayStore(labels)
    journal = Journal.open(journal_file, pixel_identity(image), image.shape_yx)
    journal.carry_out(corrections.remove(store, 2, plane=plane), store)
    journal.carry_out(corrections.accept(store, 3, plane=plane), store)
    assert known_classes(journal_file) == ()
    keep_classes(journal_file, "tiny", "", ("cell",))
    assert known_classes(journal_file) == ("cell",)
    names = ("cell", "dividing")
    keep_project(tmp_path / "cells.ome.tif", labels.copy(), journal_file, "tiny", "", names)
    assert known_classes(journal_file) == names
    keep_classes(journal_file, "tiny", "", names := ("cell", "mitotic"))
    assert known_classes(journal_file) == names
    project = read_project(tmp_path / "cells.dinomask.json")
    (known,) = taught_from_project(project)
    assert (known.n_objects, known.n_refuted) == (1, 1)
    (replayed,) = replay(project)
    assert replayed.same
    assert project.model == "tiny"


def test_a_review_of_a_changed_image_makes_no_project(tmp_path: Path) -> None:
    labels = disc_labels(6, 96, 8).astype(np.int32)
    tifffile.imwrite(tmp_path / "cells.tif", image_of(labels))
    journal_file = journal_path(tmp_path / "cells_labels.tif")
    store = ArrayStore(labels)
    journal = Journal.open(journal_file, "another image", labels.shape)
    journal.carry_out(corrections.accept(store, 3), store)
    keep_project(tmp_path / "cells.tif", labels, journal_file, "tiny", "")
    assert not (tmp_path / "cells.dinomask.json").exists()
    assert journal_file.exists()
