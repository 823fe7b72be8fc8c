"""Probes: right on separable classes, at chance on shuffled ones, judged on the unseen."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from dinomask.config import ProbeConfig
from dinomask.errors import ExplainError
from dinomask.explain.apart_worker import TASKS
from dinomask.explain.objects import ObjectFeatures
from dinomask.explain.probe import ProbeScore, choose_groups, confusion_matrix, run_probes
from dinomask.explain.probe_folds import fit_probe
from dinomask.explain.probe_model import load_probe, save_probe
from tests.explain.scenes import MODEL, features_of, planted

NAMES = np.array(["debris", "live", "mitotic"])


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Have the folds run in this process, where scikit-learn is loaded once."""
    monkeypatch.setattr(
        "dinomask.explain.probe.run_apart",
        lambda task, arrays, settings, on_progress=None: TASKS[task](
            arrays, settings, lambda done, total: None
        ),
    )


def images(n_images: int = 4, n_each: int = 12) -> tuple[ObjectFeatures, np.ndarray]:
    """Objects of three kinds in several images, with a layer of noise beside the telling one."""
    parts, kinds = [], []
    for i in range(n_images):
        features, kind = planted(n_each=n_each, seed=i, image=f"image {i}")
        noise = np.random.default_rng(100 + i).normal(size=features.vectors().shape)
        layers = {1: noise.astype(np.float32), 3: features.vectors()}
        parts.append(ObjectFeatures(features.table, layers, MODEL))
        kinds.append(kind)
    return ObjectFeatures.concatenate(parts), NAMES[np.concatenate(kinds)]


def test_separable_classes_are_told_apart_on_the_layer_that_has_them():
    features, classes = images()
    report = run_probes(features, classes.tolist())
    assert report.folds_by == "image"
    assert report.best.layer == report.probe.layer == 3
    assert report.best.balanced_accuracy > 0.98
    assert report.best.confusion.sum() == len(features)
    by_layer = report.table().groupby("layer")["balanced accuracy"].max()
    assert by_layer[1] < 0.6
    assert "no better than chance" not in report.sentence
    assert "images it had not seen" in report.sentence


def test_shuffled_classes_are_at_chance_and_it_says_so():
    features, classes = images(n_each=20)
    shuffled = np.random.default_rng(0).permutation(classes)
    report = run_probes(features, shuffled.tolist())
    for score in report.scores:
        assert abs(score.balanced_accuracy - 1 / 3) < 0.12
    assert "no better than chance" in report.sentence


def test_what_is_learned_of_an_image_does_not_help_within_it():
    # in each image both classes have a look of their own: folds that part images see through it
    rng = np.random.default_rng(0)
    parts, classes = [], []
    for i in range(6):
        look = rng.normal(size=(2, 16)) * 5
        kind = np.repeat([0, 1], 15)
        vectors = look[kind] + rng.normal(size=(30, 16)) * 0.1
        parts.append(features_of(vectors, f"image {i}"))
        classes += [f"class {k}" for k in kind]
    report = run_probes(ObjectFeatures.concatenate(parts), classes)
    assert report.best.balanced_accuracy < 0.75


def test_the_best_probe_classifies_all_objects_also_those_of_no_class(tmp_path):
    features, classes = images()
    some = [c if i % 3 else None for i, c in enumerate(classes)]
    report = run_probes(features, some)
    assert report.n_objects == sum(c is not None for c in some)
    save_probe(report.probe, tmp_path / "p.safetensors")
    back = load_probe(tmp_path / "p.safetensors")
    for probe in (report.probe, back):
        found = probe.classify(features)
        assert (found.table["predicted_class"] == classes).mean() > 0.98
        assert found.table["probability"].between(1 / 3, 1).all()
        assert (found.ids == features.ids).all()
    other = ObjectFeatures(features.table, features.by_layer, {"name": "other"})
    with pytest.raises(ExplainError, match="the probe's model"):
        back.classify(other)


def test_other_files_are_no_probes(tmp_path):
    save_file({"a": np.zeros(2)}, tmp_path / "weights")
    for name in ("weights", "missing"):
        with pytest.raises(ExplainError, match="a probe"):
            load_probe(tmp_path / name)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_linear_probe_is_scikit_learns(n_classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    features, kind = planted(n_kinds=n_classes, n_each=30)
    vectors = features.vectors() + np.random.default_rng(0).normal(size=(len(kind), 24)) * 8
    settings = {"n_classes": n_classes, "penalty": 2.0}
    probe = fit_probe("linear", 3, vectors, kind, settings)
    scaler = StandardScaler().fit(vectors)
    regression = LogisticRegression(C=0.5, class_weight="balanced", max_iter=1000)
    regression.fit(scaler.transform(vectors), kind)
    expected = regression.predict_proba(scaler.transform(vectors))
    np.testing.assert_allclose(probe.probabilities(vectors), expected, atol=1e-4)


def test_a_class_that_a_fold_never_saw_is_never_predicted():
    features, kind = planted(n_each=10)
    seen = kind != 1
    probe = fit_probe(
        "linear", 3, features.vectors()[seen], kind[seen], {"n_classes": 3, "penalty": 1.0}
    )
    assert (probe.probabilities(features.vectors())[:, 1] == 0).all()


def test_one_image_is_parted_by_place():
    features, kind = planted(n_each=30)
    report = run_probes(features, NAMES[kind].tolist(), ProbeConfig(folds=4))
    assert report.folds_by == "place"
    assert "other images is not known" in report.notes[0]
    assert report.best.balanced_accuracy > 0.98
    groups, _, _ = choose_groups(features.table, kind)
    # neighbours stay together
    for group in np.unique(groups):
        y = features.table["centroid_y"][groups == group]
        assert y.max() - y.min() < 250


def test_classes_that_are_images_are_parted_by_place():
    parts = [planted(image=name)[0] for name in ("a", "b")]
    table = ObjectFeatures.concatenate(parts).table
    groups, folds_by, notes = choose_groups(table, pd_codes(table["image"]))
    assert folds_by == "place"
    assert notes
    for group in np.unique(groups):
        assert table["image"][groups == group].nunique() == 1


def pd_codes(values):
    return np.unique(values, return_inverse=True)[1]


def test_too_few_classes_or_objects_are_refused():
    features, _ = planted(n_each=6)
    with pytest.raises(ExplainError, match="at least two classes; got 1 \\(live\\)"):
        run_probes(features, ["live"] * len(features))
    with pytest.raises(ExplainError, match="got 0"):
        run_probes(features, [None] * len(features))
    rare = ["rare" if i < 2 else "live" for i in range(len(features))]
    with pytest.raises(ExplainError, match="2 of 'rare'"):
        run_probes(features, rare)


def test_figures_are_those_worked_out_by_hand():
    codes, predicted = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0])
    score = ProbeScore(0, "linear", confusion_matrix(codes, predicted, 2))
    assert score.confusion.tolist() == [[3, 1], [1, 1]]
    assert score.recalls.tolist() == [0.75, 0.5]
    assert score.balanced_accuracy == 0.625
