"""The commands that look inside a model, put together."""

from __future__ import annotations

from cyclopts import App

from dinomask.cli_explain_attention import attention
from dinomask.cli_explain_features import features, pca
from dinomask.cli_explain_maps import maps
from dinomask.cli_explain_probe import probe
from dinomask.cli_explain_stats import reference, stats
from dinomask.cli_explain_umap import tsne, umap

explain_app = App(name="explain", help="Look inside a model: where it looks, what it sees.")
for _command in (attention, maps, pca, features, umap, tsne, probe, stats, reference):
    explain_app.command(_command)
