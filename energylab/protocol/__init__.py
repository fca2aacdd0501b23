"""How one session is measured: idle levels, warm-up, windows, and the checks of each window."""
