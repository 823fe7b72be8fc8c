"""Write measured tables into docs/compress.md.

    python benchmarks/compressing/document.py REPORT.json [docs/compress.md]

What stands between the two marks of a model that was measured is replaced; nothing there is
written by hand, so that every figure comes from `benchmarks/compression.py`. The table of a model
that the report hasn't got stays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- {}: begin -->", "<!-- {}: end -->"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "compress.md"

COLUMNS = (
    "variant",
    "network, ms",
    "×",
    "images, ×",
    "AP@0.5",
    "AP@0.5:0.95",
    "MB",
    "memory, MB",
    "S ± σ",
    "verdict",
)


def row_of(row: dict[str, Any], recommended: str | None, random: bool) -> list[str]:
    """Return a variant's cells; of random weights accuracy says nothing."""
    quality, stability = row["quality"], row["stability"]
    verdict = "; ".join(row["objections"]) or ("" if not row["methods"] else "good")
    name = f"`{row['name']}`"
    if row["name"] == recommended and not random:
        name, verdict = f"**{name}**", "recommended"
    return [
        name,
        f"{row['network_ms']['median']:.0f}",
        f"{row['network_speedup']:.2f}",
        f"{row['speedup']:.2f}",
        "–" if random else f"{quality['ap50']:.3f}",
        "–" if random else f"{quality['ap50_95']:.3f}",
        f"{row['size_mb']:.1f}",
        f"{row['model_memory_mb']:.0f}",
        "–" if random else f"{stability['s']:.2f} ± {stability['sigma']:.2f}",
        "" if random else verdict,
    ]


def table(rows: list[list[str]], header: tuple[str, ...]) -> str:
    """Lay out rows in Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (list(header), *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def describe(report: dict[str, Any], how: str) -> str:
    """Return how a model was measured, its table, the targets, and what is recommended."""
    about = report["model"]
    random = bool(about["random"])
    title = f"### `{about['name']}` ({about['backbone']})"
    remark = "Random weights: speed and size only." if random else report["recommendation"]
    rows = [row_of(row, report["recommended"], random) for row in report["variants"]]
    parts = [title, how, table(rows, COLUMNS), remark]
    if report["left_out"]:
        parts += [f"Left out: `{k}`: {v}" for k, v in report["left_out"].items()]
    wanted = [
        [
            target["target"],
            f"`{target['variant']}`",
            f"{target['least']:g}",
            f"{target['measured']:.2f}",
            "yes" if target["reached"] else "no",
        ]
        for target in report["targets"]
    ]
    parts.append(table(wanted, ("target", "variant", "at least", "measured", "reached")))
    if peer := report.get("stardist"):
        parts.append(
            f"StarDist (grid 2), trained by `benchmarks/accuracy.py`, on the same images: AP@0.5"
            f" {peer['ap50']:.3f}, {peer['px_per_s']:,.0f} px/s; the recommended variant is"
            f" {peer['times_as_fast']:.2f} times as fast."
        )
    return "\n\n".join(parts)


def measured_how(report: dict[str, Any]) -> str:
    """Say what a table was measured with, and on what."""
    options, machine = report["options"], report["machine"]
    processor = machine.get("processor") or machine.get("machine", "")
    return (
        f"Measured by `benchmarks/compression.py` ({options['images']} images,"
        f" {options['rounds']} turns, {options['minutes']:g} minutes a distillation,"
        f" {options['threads']} thread, {options['clock']} clock) on {processor}. The original"
        " is PyTorch in float32."
    )


def main(arguments: list[str]) -> None:
    """Replace what stands between the marks."""
    report = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    page = Path(arguments[1]) if len(arguments) > 1 else PAGE
    text = page.read_text(encoding="utf-8")
    for name, figures in report["models"].items():
        begin, end = BEGIN.format(name), END.format(name)
        if begin not in text or end not in text:
            sys.exit(f"{page} has no marks {begin} and {end} for this model's table")
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n\n{describe(figures, measured_how(report))}\n\n{end}{after}"
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
