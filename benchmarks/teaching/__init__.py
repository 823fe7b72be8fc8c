"""Parts of the few-shot figures in ``fewshot.py``."""
