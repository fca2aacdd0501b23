"""How one session is measured: idle levels, warm-up, windows, and the checks of each window.

Settings are fields in ``settings.py``; defaults of those a user may choose are in ``energylab/parameters.py``, reasons
for invalidity in ``validity.py``. A change of what figures mean moves a version in `energylab.parameters.PROTOCOLS`.
"""
