"""Compress a model in several ways, and compare what comes out with the original."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import warnings
from typing import TYPE_CHECKING, Any

from dinomask.compress.bench.report import bench
from dinomask.compress.bench.variant import ORIGINAL, Variant
from dinomask.compress.material import Material
from dinomask.compress.methods import find_methods
from dinomask.compress.pipeline import compress
from dinomask.compress.work import CompressionWarning
from dinomask.config import as_dict
from dinomask.errors import CancelledError, DataError, DinomaskError, ModelError
from dinomask.nets.adapter_manifest import find_adapter, read_adapter_manifest
from dinomask.nets.adapters import adapters_folder
from dinomask.nets.catalogue import find_model, read_manifest, user_models_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dinomask.compress.choose import Recipe, Study
    from dinomask.run.progress import OnProgress, Progress


def run_study(study: Study, folder: Path, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Make every variant, then compare them all; goes on where it was stopped.

    A variant that can't be made is left out, with the reason in the report.

    Parameters
    ----------
    study : what to do
    folder : of what is kept in between
    on_progress : called in every step; raising `CancelledError` stops

    Returns
    -------
    the report of `dinomask.compress.bench.report.bench`, with how each variant was made

    Raises
    ------
    DataError
        If there is no image.
    ModelError
        If the model can't be loaded.
    """
    to_learn, to_judge = find_material(study)
    made = make_variants(study, to_learn, on_progress)
    away = Material.find(study.other, None, study.bench.bench_images) if study.other else None
    report = bench(
        [Variant(ORIGINAL, study.model, study.adapter), *made.variants],
        to_judge.sources,
        folder,
        study.bench,
        study.segment,
        other=() if away is None else away.sources,
        on_progress=on_progress,
    )
    return {
        **report,
        "model": study.model,
        "adapter": study.adapter,
        "data": [str(place) for place in study.places],
        "learned_from": to_learn.record(),
        "left_out": {**made.left_out, **report["failed"]},
        "notes": {name: notes for name, notes in made.notes.items() if notes},
        "compression": {v.name: dict(_record(v.folders[-1])) for v in made.variants},
        "compress_settings": as_dict(study.config),
    }


def find_material(study: Study) -> tuple[Material, Material]:
    """Return the images to learn from and those to judge by.

    Of data sets with splits the methods see ``train`` and the bench ``val``, so that no
    method is judged by images that it was fitted to. Images without labels serve both.

    Raises
    ------
    DataError
        If there is none.
    """
    found = []
    for split, limit in (("train", study.config.images), ("val", study.bench.bench_images)):
        try:
            found.append(Material.find(study.places, split, limit))
        except DataError:
            found.append(Material.find(study.places, None, limit))
    return found[0], found[1]


@dataclasses.dataclass
class Made:
    """What came of the recipes.

    Attributes
    ----------
    variants : that could be made, in the order of the recipes
    left_out : recipes, or parts of one, that this model or machine can't do, and why
    notes : what a user should know of each variant
    """

    variants: list[Variant] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: dict[str, list[str]] = dataclasses.field(default_factory=dict)


def make_variants(study: Study, material: Material, on_progress: OnProgress | None = None) -> Made:
    """Compress the model in each way, unless that was done before."""
    made = Made()
    for recipe in study.recipes:
        folder = _folder(study, recipe)
        try:
            with _told() as notes:
                if not _is_made(folder, study, recipe, material):
                    compress(
                        study.model,
                        recipe.methods,
                        folder,
                        study.config,
                        adapter=study.adapter,
                        material=material,
                        overwrite=study.overwrite,
                        on_progress=_telling(recipe, on_progress),
                    )
        except CancelledError:
            raise
        except DinomaskError as error:
            made.left_out[recipe.name] = str(error)
            continue
        made.variants.append(_variant(study, recipe, folder))
        made.notes[recipe.name] = notes
        for skipped in _record(folder).get("skipped", ()):
            made.left_out[f"{skipped['method']} in {recipe.name}"] = skipped["reason"]
    return made


def _telling(recipe: Recipe, on_progress: OnProgress | None) -> OnProgress:
    def tell(progress: Progress) -> None:
        if on_progress is not None:
            stage = f"{recipe.name}: {progress.stage}"
            on_progress(dataclasses.replace(progress, stage=stage))

    return tell


@contextlib.contextmanager
def _told() -> Iterator[list[str]]:
    """Take down what a compression warns of; what is left out is told elsewhere."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CompressionWarning)
        try:
            yield notes
        finally:
            ours = [w for w in caught if issubclass(w.category, CompressionWarning)]
            texts = dict.fromkeys(str(w.message) for w in ours)
            notes += [text for text in texts if " is left out: " not in text]
    for other in caught:
        if other not in ours:
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)


def _folder(study: Study, recipe: Recipe) -> Path:
    """Return where a variant lies: by its name among the user's models, or in ``out``."""
    base = find_adapter(study.adapter) if study.adapter else find_model(study.model)
    name = "-".join([base.name, *recipe.methods])
    if study.out is not None:
        return study.out if len(study.recipes) == 1 else study.out / name
    return (adapters_folder() if recipe.of_adapter else user_models_folder()) / name


def _variant(study: Study, recipe: Recipe, folder: Path) -> Variant:
    if recipe.of_adapter:
        return Variant(recipe.name, study.model, str(folder), recipe.methods)
    return Variant(recipe.name, str(folder), None, recipe.methods)


def _record(folder: Path) -> Mapping[str, Any]:
    """Return how a result was made; empty if there is none."""
    try:
        return read_manifest(folder).compression
    except ModelError:
        pass
    try:
        about = read_adapter_manifest(folder).provenance.get("compression", {})
    except DinomaskError:
        return {}
    found: Mapping[str, Any] = about
    return found


def _is_made(folder: Path, study: Study, recipe: Recipe, material: Material) -> bool:
    """Tell whether the result of the very same compression is there already."""
    record = _record(folder)
    if not record:
        return False
    source = record.get("source", {})
    chosen = find_methods(recipe.methods)
    steps = {step["method"]: step["settings"] for step in record.get("steps", ())}
    skipped = {step["method"] for step in record.get("skipped", ())}
    by_images = any(method.needs == "images" for method in chosen)
    return bool(
        source.get("weights_sha256") == read_manifest(find_model(study.model)).weights_sha256
        and source.get("adapter") == study.adapter
        and steps.keys() | skipped == {method.name for method in chosen}
        and all(
            _alike(steps[method.name], method.settings(study.config))
            for method in chosen
            if method.name in steps
        )
        and (not by_images or record.get("material") == _plain(material.record()))
    )


def _alike(recorded: Any, settings: Any) -> bool:
    return bool(recorded == (None if settings is None else _plain(as_dict(settings))))


def _plain(value: Any) -> Any:
    """Return a value as json would give it back."""
    return json.loads(json.dumps(value, default=str))
