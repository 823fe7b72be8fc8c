"""Classes of objects and of images: where their names stand, and their numbers.

A folder set names the class of each object in ``classes/NAME.csv``, a table with
the columns ``label`` (the id in ``labels/NAME``) and ``class``, and the class of a
whole image in the column ``image_class`` of ``index.csv``. In COCO's json the
category of an annotation is its class.

A model knows classes by their place in a list. Unless the user gives it, the
list holds the names of all sets together, in alphabetical order, so that it
depends neither on the order of the sets nor on the split taken.
"""

from __future__ import annotations

import csv
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dinomask.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from dinomask.instances import Array


@dataclasses.dataclass(frozen=True, eq=False)
class ObjectClasses:
    """The classes of one image's objects.

    Attributes
    ----------
    file : where they stand, for messages
    names : class of each object by the file's own id; None where none is given
    annotations : COCO's id of each, for messages; None where the ids are labels
    """

    file: str
    names: Mapping[int, str | None]
    annotations: Mapping[int, object] | None = None

    def known(self) -> list[str]:
        """Return the names that occur, each once, in alphabetical order."""
        return sorted({name for name in self.names.values() if name is not None})

    def require(self, classes: Sequence[str]) -> None:
        """Raise DataError if an object is of a class outside the list."""
        for number, name in self.names.items():
            if name is not None and name not in classes:
                raise _outside(name, self._where(number), classes)

    def index(self, ids: Array, classes: Sequence[str], image: str) -> Array:
        """Return the place of each object's class in the list.

        Parameters
        ----------
        ids : shape (N,), the file's ids
        classes : the list
        image : for messages

        Returns
        -------
        shape (N,), int64

        Raises
        ------
        DataError
            If an object has no class, or one outside the list.
        """
        place = {name: i for i, name in enumerate(classes)}
        numbers = np.zeros(len(ids), np.int64)
        for row, number in enumerate(ids.tolist()):
            name = self.names.get(number)
            if name is None:
                raise DataError(
                    expected=f"a class for every object of {image}",
                    got=f"none for {self._where(number)}",
                    remedy="Add the missing classes, or train without classes.",
                )
            if name not in place:
                raise _outside(name, self._where(number), classes)
            numbers[row] = place[name]
        return numbers

    def _where(self, number: int) -> str:
        if self.annotations is None:
            return f"object {number} in {self.file}"
        return f"annotation {self.annotations[number]} in {self.file}"


def _outside(name: str, where: str, classes: Sequence[str]) -> DataError:
    return DataError(
        expected=f"one of the classes {', '.join(classes)}",
        got=f"the class {name!r} of {where}",
        remedy="Correct the name there, or add it to the list of classes.",
    )


def image_class_index(name: str | None, classes: Sequence[str], image: str) -> int | None:
    """Return the place of an image's class in the list; None where it has none.

    Raises
    ------
    DataError
        If it is outside the list.
    """
    if name is None or not classes:
        return None
    if name not in classes:
        raise _outside(name, f"the image {image}", classes)
    return list(classes).index(name)


def check_list(given: Sequence[str] | None) -> None:
    """Raise DataError if a given list of classes is empty or names one twice."""
    if given is not None and (not given or len(set(given)) < len(given)):
        raise DataError(
            expected="a list of classes, each once",
            got=", ".join(given) or "an empty one",
            remedy="Name each class once.",
        )


def read_class_table(path: Path) -> ObjectClasses:
    """Read ``classes/NAME.csv``; rows of objects that the labels don't show are allowed.

    Raises
    ------
    DataError
        If columns are missing, a label is no positive whole number or stands
        there twice, or a class has no name.
    """
    rows = read_table(path, ("label", "class"))
    names: dict[int, str | None] = {}
    for line, row in enumerate(rows, 2):
        text, name = (row["label"] or "").strip(), (row["class"] or "").strip()
        if not text.isdecimal() or int(text) == 0 or not name or int(text) in names:
            raise DataError(
                expected="a label above 0, each once, and its class",
                got=f"{text!r} and {name!r} in line {line} of {path}",
                remedy="Correct the line: an object's id in the label image, a comma, a name.",
            )
        names[int(text)] = name
    return ObjectClasses(str(path), names)


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file whose first line names its columns.

    Parameters
    ----------
    path : a file in UTF-8
    columns : must be there; others may

    Raises
    ------
    DataError
        If it can't be read, or lacks one of the columns.
    """
    try:
        # -sig: spreadsheets put a byte order mark in front
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            present = list(reader.fieldnames or [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            expected=f"{path.name} in UTF-8", got=f"{path}: {error}", remedy="Save it as UTF-8 CSV."
        ) from error
    missing = [column for column in columns if column not in present]
    if missing:
        raise DataError(
            expected=f"a column {missing[0]!r} in {path.name}",
            got=f"columns {present} in {path}",
            remedy=f"Add the header line with {','.join(columns)}.",
        )
    return rows


def coco_categories(records: Sequence[Any], used: Iterable[object]) -> dict[object, str]:
    """Name the categories of a COCO json by their ids.

    Some exporters (Roboflow) list the heading of the categories as one more,
    which no annotation has: it is left out. A category without a name is called
    by its id.

    Parameters
    ----------
    records : the json's ``categories``; what is no record is passed over
    used : category ids of the annotations
    """
    found = set(used)
    listed = [r for r in records if isinstance(r, dict) and isinstance(r.get("id"), int | str)]
    names = {}
    for record in listed:
        name = str(record.get("name") or record["id"]).strip()
        heads = any(r is not record and r.get("supercategory") == name for r in listed)
        if record["id"] in found or not heads:
            names[record["id"]] = name
    return names | {number: str(number) for number in found if number not in names}
