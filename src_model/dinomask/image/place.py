"""Where a zarr hierarchy lives: a folder, or a URL of any kind that fsspec knows.

Both open nodes, join names and tell a stamp that changes when the metadata do.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from typing import TYPE_CHECKING, Any, Protocol

import zarr

from dinomask.errors import InputError
from dinomask.image.raw import READ_ERRORS, stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
"""A folder with one of these is a zarr node."""

_URL = re.compile(r"^([a-z][a-z0-9+.-]+)(://|::)", re.IGNORECASE)
_INSTALL = "Install what it needs: pip install 'napari-dinomask[remote]'."
_FACTS = ("size", "ETag", "Content-MD5", "Last-Modified", "LastModified", "mtime", "created")


def is_url(source: object) -> bool:
    """Whether a source is a URL, such as ``https://…`` or ``s3://…``."""
    return isinstance(source, str) and _URL.match(source) is not None


class Place(Protocol):
    """What the zarr reader needs to know about where it reads."""

    @property
    def name(self) -> str:
        """The last part, for messages."""
        ...

    @property
    def origin(self) -> dict[str, Any]:
        """`path` or `url`, as fields of a `RawImage`."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether looking at it goes over a network."""
        ...

    def __truediv__(self, name: str) -> Place: ...

    def open(self) -> zarr.Array[Any] | zarr.Group:
        """Open the node for reading."""
        ...

    def metadata_files(self, nodes: Iterable[str]) -> tuple[Any, ...]:
        """Return the metadata files of nodes, each named relative to the store."""
        ...

    def stamp(self, files: tuple[Any, ...]) -> str:
        """Return a hash that changes with the files; raises OSError where one is gone."""
        ...


@dataclasses.dataclass(frozen=True)
class Folder:
    """A zarr node on a disk."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def origin(self) -> dict[str, Any]:
        """The path."""
        return {"path": self.path}

    @property
    def is_remote(self) -> bool:
        """Not over a network, as far as the system tells."""
        return False

    def __truediv__(self, name: str) -> Folder:
        return Folder(self.path / name)

    def open(self) -> zarr.Array[Any] | zarr.Group:
        """Open the node for reading."""
        return zarr.open(str(self.path), mode="r")

    def metadata_files(self, nodes: Iterable[str]) -> tuple[Path, ...]:
        """Return the metadata files of nodes below this one."""
        folders = dict.fromkeys([self.path, *(self.path / node for node in nodes)])
        return tuple(f / n for f in folders for n in ZARR_FILES if (f / n).exists())

    def stamp(self, files: tuple[Path, ...]) -> str:
        """Return a hash of the files' times of change."""
        return stamp_of(str(self.path), [file.stat().st_mtime_ns for file in files])


@dataclasses.dataclass(frozen=True)
class Remote:
    """A zarr node behind a URL, which has no slash at its end."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def origin(self) -> dict[str, Any]:
        """The URL."""
        return {"url": self.url}

    @property
    def is_remote(self) -> bool:
        """Over a network."""
        return True

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url}/{name}")

    def open(self) -> zarr.Array[Any] | zarr.Group:
        """Open the node for reading; chunks come over the network one by one.

        Raises
        ------
        InputError
            If the protocol is unknown or not installed, the server does not
            answer, or there is no zarr.
        """
        _require_protocol(self.url)
        try:
            store = zarr.storage.FsspecStore.from_url(self.url, read_only=True)
            return zarr.open(store, mode="r")
        except FileNotFoundError as error:
            raise InputError(
                expected="the URL of a zarr or OME-Zarr",
                got=f"{self.url}, where there is none",
                remedy="Check the spelling; it must end with the folder that holds zarr.json, "
                ".zattrs or .zarray. Other formats must be downloaded first.",
            ) from error
        except READ_ERRORS as error:
            raise _unreachable(self.url, error) from error

    def metadata_files(self, nodes: Iterable[str]) -> tuple[str, ...]:
        """Return the URLs of metadata files that exist: of this node and of the finest level."""
        found = []
        for place in dict.fromkeys([self, *(self / node for node in nodes)][:2]):
            for name in ZARR_FILES:
                url = (place / name).url
                with contextlib.suppress(FileNotFoundError):
                    _facts(url)
                    found.append(url)
                    if name == ZARR_FILES[0]:
                        # zarr 3 has no other; each question is a trip over the network
                        break
        return tuple(found)

    def stamp(self, files: tuple[str, ...]) -> str:
        """Return a hash of sizes, times of change and entity tags, without a download."""
        return stamp_of(self.url, [_facts(url) for url in files])


def _facts(url: str) -> list[tuple[str, str]]:
    """Ask what a file is, not for its content: size, entity tag, time of change."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url)
    filesystem.invalidate_cache()
    info = filesystem.info(path)
    return [(name, str(info[name])) for name in _FACTS if info.get(name) is not None]


@functools.cache
def _known_protocols() -> frozenset[str]:
    import fsspec

    return frozenset(fsspec.available_protocols())


def _require_protocol(url: str) -> None:
    """Raise InputError unless fsspec and what it needs for this protocol are installed."""
    match = _URL.match(url)
    protocol = match.group(1).lower() if match else ""
    try:
        import fsspec

        if protocol not in _known_protocols():
            raise InputError(
                expected="a URL that starts with https://, http:// or s3://",
                got=url,
                remedy="Check the spelling, or download the image first.",
            )
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise InputError(
            expected=f"the packages that read {protocol}://",
            got=str(error).rstrip("."),
            remedy=_INSTALL,
        ) from error


def _unreachable(url: str, error: BaseException) -> InputError:
    return InputError(
        expected=f"a zarr or OME-Zarr that can be read at {url}",
        got=f"{type(error).__name__}: {error}".rstrip(": ."),
        remedy="Check the address, the network and your permissions, and try again.",
    )
