"""``python -m dinomask``: the command line."""

from dinomask.cli import main

main()
