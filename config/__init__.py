"""Settings of the server: declared in `settings.py`, read by `load.py`, described by `describe.py`."""
