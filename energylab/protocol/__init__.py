"""How one session is measured: idle levels, warm-up, windows, and the checks of each window.

A setting is a field in ``settings.py`` (one of the user's also in ``energylab/parameters.py``), a reason for invalidity
a line in ``validity.py``. What changes a figure's meaning moves the version in `energylab.parameters.PROTOCOLS`.
"""
