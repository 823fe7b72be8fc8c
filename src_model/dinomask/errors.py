"""Errors a user can cause.

Every message says what was expected, what was got and what to do, so that the
same sentence serves in a terminal, in a notebook and in a napari dialog.
"""

from __future__ import annotations


class DinomaskError(Exception):
    """An error with a remedy; the parent of all errors a user can cause.

    Parameters
    ----------
    expected : what would have been right
    got : what was found instead
    remedy : a full sentence that says what to do
    """

    exit_code = 2
    """Exit status of the command line."""

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        self.expected = expected
        self.got = got
        self.remedy = remedy
        super().__init__(f"expected {expected}; got {got}. {remedy}")

    def __reduce__(self) -> tuple[type[DinomaskError], tuple[str, str, str]]:
        """Pickle the parts: workers' errors are raised in the leading process."""
        return type(self), (self.expected, self.got, self.remedy)


class InputError(DinomaskError):
    """An image that can't be read or segmented."""


class AxesError(InputError):
    """Axes that are ambiguous or do not fit the array."""


class ChunkError(InputError):
    """A part of an image that can't be read; the rest may be fine."""


class SourceChangedError(InputError):
    """An image that vanished or changed while it was worked on; what was finished is kept."""


class OutputError(DinomaskError):
    """An output that exists already or can't be written."""


class SettingsError(DinomaskError):
    """A setting outside its range."""


class ModelError(DinomaskError):
    """A model that is unknown, damaged or does not fit."""


class NoAttentionError(ModelError):
    """A convolutional backbone, asked for what only transformers have."""


class BackendError(ModelError):
    """A backend that isn't installed, or can't run a model on this machine."""


class DataError(DinomaskError):
    """A folder of annotated images that can't be used."""


class TeachError(DinomaskError):
    """A teaching that can't begin: too little is known, or memory is short."""


class ExplainError(DinomaskError):
    """Something that can't be explained: too few objects, all alike, or of another model."""


class EngineError(DinomaskError):
    """Workers or a cluster that can't be used or were lost; finished tiles are kept."""


class TilesFailedError(DinomaskError):
    """An image of which not one tile could be segmented."""


class CorrectionError(DinomaskError):
    """A correction that can't be made, such as a drawing without a pixel in the image."""


class ConflictError(CorrectionError):
    """A correction of something that the labels don't show; nothing is changed."""


class JournalError(DinomaskError):
    """A journal of corrections that is damaged or can't be added to."""


class WrongImageError(JournalError):
    """A journal that was kept for another image, or for one that was changed since."""


class ProjectError(DinomaskError):
    """A project file that can't be used."""


class CancelledError(DinomaskError):
    """The user stopped the work; what was finished is kept."""

    exit_code = 130
