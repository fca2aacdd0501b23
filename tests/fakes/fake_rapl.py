"""A powercap tree of files whose counters move with a clock of their own."""

from __future__ import annotations

from pathlib import Path

from energylab.clock import ManualClock

RANGE_UJ = 65_532_610_987


def zone(root: Path, folder: str, name: str, energy_uj: int = 0, limit_uw: int | None = None) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    if limit_uw is not None:
        (path / "constraint_0_power_limit_uw").write_text(f"{limit_uw}\n")
        (path / "constraint_1_power_limit_uw").write_text(f"{limit_uw * 2}\n")
    return path


class CountingClock(ManualClock):
    """Moves the counter of a zone by its power, as time passes."""

    def __init__(self, zones: dict[Path, float], tick_s: float = 0.0) -> None:
        super().__init__()
        self.zones, self.tick_s = zones, tick_s
        self._shown_uj = {path: float((path / "energy_uj").read_text()) for path in zones}

    def sleep(self, seconds: float) -> None:
        before_s = self.now()
        super().sleep(seconds)
        for path, power_w in self.zones.items():
            if self.tick_s:
                seconds = (self.now() // self.tick_s - before_s // self.tick_s) * self.tick_s
            self.add(path, power_w * seconds)

    def add(self, path: Path, joules: float) -> None:
        """Let a counter step by `joules`; what is written is whole at once, as the kernel shows it."""
        self._shown_uj[path] = (self._shown_uj[path] + joules * 1e6) % RANGE_UJ
        (path / "next").write_text(str(round(self._shown_uj[path])))
        (path / "next").replace(path / "energy_uj")
