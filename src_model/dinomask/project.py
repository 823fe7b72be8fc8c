"""A project: images, their labels and journals, and the model in use, in one small file.

The file holds names only. All that it names can be opened without it, and it can be made anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dinomask
from dinomask.adapt.from_journal import taught_from_journal
from dinomask.adapt.journal import Journal, journal_path, pixel_identity
from dinomask.adapt.overlay_store import OverlayStore
from dinomask.adapt.replay import Replayed, keep_first_labels, open_labels, rebuild, replay_labels
from dinomask.errors import OutputError, ProjectError
from dinomask.image import open_stack
from dinomask.tiles.outputs import replacing

if TYPE_CHECKING:
    from dinomask.adapt.taught import TaughtImage
    from dinomask.image.source import Image
    from dinomask.image.stack import Stack

__all__ = [
    "Project",
    "ProjectImage",
    "Replayed",
    "keep_first_labels",
    "open_labels",
    "read_project",
    "rebuild_image",
    "replay",
    "taught_from_project",
    "write_project",
]

SUFFIX = ".dinomask.json"
"""Ending of a project file's name."""

FORMAT = 1
_PATHS = ("image", "labels", "journal", "first_labels")


@dataclasses.dataclass(frozen=True)
class ProjectImage:
    """One image of a project.

    Attributes
    ----------
    name : in the project
    image : file or folder
    labels : label image that is corrected, .zarr or .tif
    journal : of its corrections; None: beside the labels
    first_labels : a copy from before the first correction, see `keep_first_labels`; None if
        there is none
    """

    name: str
    image: Path
    labels: Path
    journal: Path | None = None
    first_labels: Path | None = None

    @property
    def journal_file(self) -> Path:
        """Where the journal lies."""
        return self.journal or journal_path(self.labels)

    def open_journal(self, **who: str) -> Journal:
        """Open the journal, after a look whether the image is still the same.

        Raises
        ------
        WrongImageError
            If the image has other pixels than when the journal was begun.
        InputError
            If the image can't be read.
        JournalError
            If the journal is damaged.
        """
        stack = open_stack(self.image)
        identity = pixel_identity(stack)
        return Journal.open(self.journal_file, identity, stack.base.shape_yx, **who)


@dataclasses.dataclass(frozen=True)
class Project:
    """A project file.

    Attributes
    ----------
    path : of the file, ending .dinomask.json
    images : in order; no two have one name
    model : name or folder of the checkpoint; empty for the default
    adapter : name of the adapter; empty for none
    classes : names of the objects' classes 0, 1, …, as far as they have names
    """

    path: Path
    images: tuple[ProjectImage, ...] = ()
    model: str = ""
    adapter: str = ""
    classes: tuple[str, ...] = ()

    def with_image(self, image: ProjectImage) -> Project:
        """Return the project with one more image, in the place of one of its name."""
        names = [known.name for known in self.images]
        images = list(self.images)
        if image.name in names:
            images[names.index(image.name)] = image
        else:
            images.append(image)
        return dataclasses.replace(self, images=tuple(images))


def read_project(path: Path) -> Project:
    """Read a project file; files that it names are not looked at.

    Raises
    ------
    ProjectError
        If it can't be read or is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["dinomask_project"] != FORMAT:
            raise _no_project(path, got=f"format {found['dinomask_project']!r}")
        images = tuple(_image(entry, path.parent) for entry in found["images"])
        # files of earlier versions name no classes
        classes = tuple(str(name) for name in found.get("classes", ()))
        project = Project(path, images, str(found["model"]), str(found["adapter"]), classes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_project(path, got=f"{type(error).__name__}: {error}") from error
    _require_names(project)
    return project


def write_project(project: Project) -> None:
    """Write a project file, at one stroke; paths are noted from its folder on.

    Raises
    ------
    ProjectError
        If two images have one name, or its own has another ending.
    OutputError
        If it can't be written, or the file that is there is no project.
    """
    if not project.path.name.endswith(SUFFIX):
        raise ProjectError(
            expected=f"a name that ends in {SUFFIX}",
            got=project.path.name,
            remedy=f"Name it {project.path.name.split('.')[0]}{SUFFIX}.",
        )
    _require_names(project)
    if project.path.exists():
        _require_ours(project.path)
    folder = project.path.parent
    content = {
        "dinomask_project": FORMAT,
        "dinomask_version": dinomask.__version__,
        "model": project.model,
        "adapter": project.adapter,
        "classes": list(project.classes),
        "images": [_entry(image, folder) for image in project.images],
    }
    with replacing(project.path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def replay(project: Project) -> list[Replayed]:
    """Make every label image again from its journal, and compare; nothing is written.

    Raises
    ------
    WrongImageError
        If an image has other pixels than when its journal was begun.
    JournalError
        If a journal is damaged before its last line.
    InputError
        If an image or labels can't be read.
    """
    found = []
    for image in project.images:
        journal = image.open_journal()
        found.append(replay_labels(image.name, journal, image.labels, image.first_labels))
    return found


def taught_from_project(project: Project) -> list[TaughtImage]:
    """Collect what the corrections of all images say; needs no torch.

    Raises
    ------
    WrongImageError
        If an image has other pixels than when its journal was begun.
    JournalError
        If a journal is damaged before its last line.
    InputError
        If an image or labels can't be read.
    """
    taught: list[TaughtImage] = []
    for image in project.images:
        stack = open_stack(image.image)
        numbers = {stack.position(n): n for n in range(len(stack))}
        store, journal = OverlayStore(open_labels(image.labels)), image.open_journal()
        # labels on disk may be older than the journal, and are left as they are
        journal.catch_up(store, last=None)

        def plane(place: tuple[int, ...], stack: Stack = stack, numbers: Any = numbers) -> Image:
            return stack.image(numbers[place])

        taught += taught_from_journal(plane, store, journal, image.name)
    return taught


def rebuild_image(image: ProjectImage, folder: Path) -> Path:
    """Make an image's labels again from its first labels and its journal, in a folder.

    Returns
    -------
    The new file, named like the labels.

    Raises
    ------
    ProjectError
        If the first labels were not kept.
    ConflictError
        If the journal doesn't fit them.
    OutputError
        If it can't be written or exists.
    """
    if image.first_labels is None:
        raise ProjectError(
            expected=f"the labels of {image.name} from before the first correction",
            got="none in the project",
            remedy="Only labels whose first state was kept can be made again.",
        )
    # of the kind that the first ones are
    out = folder / (image.labels.stem + image.first_labels.suffix)
    rebuild(image.open_journal(), image.first_labels, out)
    return out


def _image(entry: dict[str, Any], folder: Path) -> ProjectImage:
    def path(key: str) -> Path | None:
        return _resolved(folder, str(entry[key])) if entry.get(key) else None

    image, labels = path("image"), path("labels")
    if image is None or labels is None:
        msg = "an image without a file or labels"
        raise ValueError(msg)
    return ProjectImage(str(entry["name"]), image, labels, path("journal"), path("first_labels"))


def _entry(image: ProjectImage, folder: Path) -> dict[str, str]:
    paths = {key: getattr(image, key) for key in _PATHS}
    noted = {key: _noted(folder, path) for key, path in paths.items() if path is not None}
    return {"name": image.name, **noted}


def _noted(folder: Path, path: Path) -> str:
    """Return a path as seen from a folder, so that both can be moved together."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    except ValueError:
        # another drive of Windows
        return path.resolve().as_posix()


def _resolved(folder: Path, noted: str) -> Path:
    return Path(os.path.normpath(folder / noted))


def _require_names(project: Project) -> None:
    names = [image.name for image in project.images]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ProjectError(
            expected="images of different names",
            got=f"{', '.join(twice)} more than once in {project.path}",
            remedy="Give each image a name of its own.",
        )


def _require_ours(path: Path) -> None:
    try:
        read_project(path)
    except ProjectError as error:
        raise OutputError(
            expected=f"no file, or an earlier project, at {path}",
            got=error.got,
            remedy="Choose another name, or move that file away.",
        ) from error


def _no_project(path: Path, got: str) -> ProjectError:
    return ProjectError(
        expected=f"a project file at {path}, as this program writes it",
        got=got,
        remedy=f"Choose a file that ends in {SUFFIX}; it can be made anew by opening the images.",
    )
