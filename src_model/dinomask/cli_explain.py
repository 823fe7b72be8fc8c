"""The commands that look inside a model, put together."""

from __future__ import annotations

from cyclopts import App

from dinomask.cli_explain_attention import attention
from dinomask.cli_explain_maps import maps
from dinomask.cli_explain_stats import reference, stats

explain_app = App(name="explain", help="Look inside a model: where it looks, what it sees.")
explain_app.command(attention)
explain_app.command(maps)
explain_app.command(stats)
explain_app.command(reference)
