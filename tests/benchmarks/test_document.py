"""The page shows what was measured, and nothing else of it changes."""

from __future__ import annotations

import json

import pytest
from compressing.document import BEGIN, END, main


def _row(name, methods, ap50):
    return {
        "name": name,
        "methods": methods,
        "objections": [],
        "quality": {"ap50": ap50, "ap50_95": ap50 / 2},
        "stability": {"s": 1.5, "sigma": 0.1},
        "network_ms": {"median": 123.4},
        "network_speedup": 2.0,
        "speedup": 1.5,
        "size_mb": 8.5,
        "model_memory_mb": 300.0,
    }


def _report(random):
    return {
        "model": {"name": "m", "backbone": "b", "random": random},
        "variants": [_row("original", [], 0.8), _row("int8", ["int8-openvino"], 0.79)],
        "recommended": "int8",
        "recommendation": "Use int8.",
        "left_out": {"fp16": "there is no such arithmetic"},
        "targets": [
            {"target": "×", "variant": "int8", "least": 2.0, "measured": 1.9, "reached": False}
        ],
    }


def test_only_what_stands_between_the_marks_is_replaced(tmp_path):
    report = tmp_path / "report.json"
    page = tmp_path / "page.md"
    tiny, large, other = (
        (BEGIN.format(name), END.format(name)) for name in ("tiny", "large", "other")
    )
    marked = "\nbetween\n".join(f"{b}\nold\n{e}" for b, e in (tiny, large, other))
    page.write_text(f"before\n{marked}\nafter\n", encoding="utf-8")
    whole = {
        "options": {"images": 12, "rounds": 15, "minutes": 3.0, "threads": 1, "clock": "wall"},
        "machine": {"processor": "x86_64"},
        "models": {"tiny": _report(random=False), "large": _report(random=True)},
    }
    report.write_text(json.dumps(whole), encoding="utf-8")
    for _ in range(2):
        main([str(report), str(page)])
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{tiny[0]}")
    # a model that was not measured keeps its table
    assert text.endswith(f"{other[0]}\nold\n{other[1]}\nafter\n")
    assert text.count("old") == 1 and text.count("\nbetween\n") == 2
    assert text.count(tiny[0]) == text.count(large[1]) == 1
    assert "| **`int8`** | 123 | 2.00 | 1.50 | 0.790 |" in text
    # of random weights accuracy isn't shown
    assert text.count("0.790") == 1 and "1.90 | no |" in text


def test_a_page_without_the_marks_is_left_alone(tmp_path):
    report, page = tmp_path / "report.json", tmp_path / "page.md"
    page.write_text("text\n", encoding="utf-8")
    report.write_text(json.dumps({"models": {"tiny": _report(random=False)}}), encoding="utf-8")
    with pytest.raises(SystemExit, match="tiny: begin"):
        main([str(report), str(page)])
    assert page.read_text(encoding="utf-8") == "text\n"
