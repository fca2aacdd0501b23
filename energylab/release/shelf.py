"""The records behind a table, by the model they measured, and the machines they ran on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from energylab import store
from energylab.record import Record
from energylab.release import evidence
from energylab.release.schema import Machine

if TYPE_CHECKING:
    import pandas as pd

#: A model among its peers: task, model class (empty for none), name.
Key = tuple[str, str, str]


@dataclass
class Shelf:
    """Records by model, oldest first, and the machines they ran on, each once."""

    records: Mapping[Key, list[Record]]
    machines: list[Machine] = field(default_factory=list)

    @classmethod
    def of(cls, table: pd.DataFrame) -> Shelf:
        """Read again, whole, the records that a tidy table's rows came from."""
        if "path" not in table or "session" not in table:
            return cls({})
        from_record = table["path"].astype("string").str.endswith(".json").fillna(False)
        rows = table.loc[from_record, ["path", "session"]].drop_duplicates()
        records = sorted(
            (store.read_record(Path(path)) for path in rows["path"]),
            key=lambda record: (record.created_utc, record.record_id),
        )
        shelf: dict[Key, list[Record]] = {}
        for record in records:
            shelf.setdefault((record.task.name, record.model.model_class or "", record.model.name), []).append(record)
        return cls(shelf)

    def behind(self, key: Key) -> list[Record]:
        """Return the records of one model, oldest first; none for figures from a table."""
        return self.records.get(key, [])

    def machine(self, record: Record) -> int:
        """Return the number of the machine a record ran on."""
        facts = evidence.machine(record)
        if facts not in self.machines:
            self.machines.append(facts)
        return self.machines.index(facts)

    def imported_from(self) -> tuple[str, ...]:
        """Return the files that imported records came from: format, name and sha256 of each, once."""
        origins = [record.extra.get("import") for behind in self.records.values() for record in behind]
        found = {f"{each['format']}: {each['file']}, sha256 {each['sha256']}." for each in origins if each}
        return tuple(sorted(found))
