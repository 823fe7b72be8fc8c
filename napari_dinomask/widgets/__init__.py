"""The plugin's panels; each one reads a form, starts a job and shows what came of it."""
