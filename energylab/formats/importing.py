"""Import files: find each one's format, read its sessions, write their records."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from energylab import store
from energylab.errors import EnergylabError, FormatError
from energylab.formats.ai_energy_score import ROUNDING_WH, SUMMARY, TEXT
from energylab.formats.ask import number
from energylab.formats.session import Asked, Session
from energylab.formats.source import Source, open_sources
from energylab.formats.to_record import to_record
from energylab.formats.totals import RATED, Total, totals
from energylab.record import Record
from energylab.registry import Registry

#: Every format that can be read; other packages register theirs in the entry point group.
READERS = Registry(
    "format",
    {
        "optimum-benchmark": "energylab.formats.optimum_benchmark:OptimumBenchmark",
        "ai-energy-score": "energylab.formats.ai_energy_score:Runner",
        "gpu-energy-summary": "energylab.formats.ai_energy_score:Summary",
        "gpu-energy-text": "energylab.formats.ai_energy_score:Text",
        "ai-energy-score-batch": "energylab.formats.ai_energy_score:BatchTable",
        "codecarbon": "energylab.formats.codecarbon:CodeCarbon",
        "ml-energy": "energylab.formats.ml_energy:Configurations",
        "ml-energy-v2": "energylab.formats.ml_energy:Titled",
        "ml-energy-results": "energylab.formats.ml_energy:Results",
        "ml-energy-2023": "energylab.formats.ml_energy:Table",
        "leaderboard": "energylab.formats.leaderboard:Leaderboard",
    },
    group="energylab.formats",
)


#: A report, and the file that optimum-benchmark writes with report and configuration in one.
REPORT, COPY = "benchmark_report.json", "benchmark.json"


class Reader(Protocol):
    """What a format needs: its name, a title for people, and two methods."""

    name: str
    title: str

    def recognises(self, source: Source) -> bool:
        """Say whether a file is of this format."""
        ...

    def read(self, source: Source, asked: Asked) -> list[Session]:
        """Return the sessions of a file."""
        ...


@dataclass(frozen=True)
class Imported:
    """One session that was imported.

    Attributes
    ----------
    source : str
        The file.
    format : str
        Name of its format.
    record : Record
    path : pathlib.Path
        Where the record is.
    totals : tuple of Total
        By the file's phases and of what is rated, with the invalid measures and without.
    new : bool
        False when the same record was there already.
    """

    source: str
    format: str
    record: Record
    path: Path
    totals: tuple[Total, ...]
    new: bool

    @property
    def rated(self) -> Total:
        """The total of what is rated."""
        return next(total for total in self.totals if total.phase == RATED)


@dataclass(frozen=True)
class Checked:
    """A file that repeats a report imported with it, a summary or a copy: it agrees, and is no session of its own.

    Attributes
    ----------
    source, report : str
        The file, and the report it repeats.
    """

    source: str
    report: str


def import_files(
    paths: Iterable[str | os.PathLike],
    output: str | os.PathLike = "results/imported",
    asked: Asked | None = None,
    format: str | None = None,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> list[Imported | Checked]:
    """Import files into records of energy kind `imported`; nothing is written unless all of them can be read.

    Parameters
    ----------
    paths : iterable of path
        Reports, tables, or zip archives of them.
    output : path
        Records go to ``OUTPUT/FORMAT/RECORD_ID/record.json``.
    asked : Asked, optional
        What the files do not state.
    format : str, optional
        Name of the format, or ``file.py:Class`` for a reader of one's own; by default each file shows its own.
    now : callable
        The time, for records of files that state none.

    Returns
    -------
    list of Imported or Checked
        In the order of the files. A summary whose report is imported too is only checked against it.

    Raises
    ------
    FormatError
        If a file is of no known format, contradicts itself, or lacks a fact that must be had.
    """
    asked = asked or Asked()
    readers = _readers(format)
    sources = [source for path in paths for source in _opened(Path(path), readers)]
    chosen = [(source, _choose(source, readers, format)) for source in sources if not _reported(source, sources)]
    read = [(source, reader, _read(reader, source, asked)) for source, reader in chosen]
    made = [
        _record(session, source, reader.name, asked, Path(output), now())
        for source, reader, sessions in read
        for session in sessions
    ]
    checked = [_check(source, made) for source in sources if _reported(source, sources)]
    for each in made:
        if each.new:
            store.write(each.record, each.path.parent)
    return [*made, *checked]


def _opened(path: Path, readers: Sequence[Reader]) -> list[Source]:
    """Return the files of a path; of an archive only those that may be reports, at least one."""
    sources = open_sources(path)
    if len(sources) == 1 and sources[0].name == str(path):
        return sources
    known = [source for source in sources if any(reader.recognises(source) for reader in readers)]
    if not known:
        raise FormatError(f"{path} holds no file of a known format; it holds {', '.join(s.file_name for s in sources)}")
    return known


def _readers(format: str | None) -> list[Reader]:
    """Return the readers to choose from: all, or the one that was named."""
    return [READERS.get(name)() for name in ([format] if format else READERS.names())]


def _choose(source: Source, readers: Sequence[Reader], format: str | None) -> Reader:
    if format is not None:
        return readers[0]
    found = [reader for reader in readers if reader.recognises(source)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(reader.name for reader in found)
        raise FormatError(f"{source.name} could be {names}; say which with --format")
    if source.name.endswith(".csv"):
        raise FormatError(
            f"{source.name} is no table of another program that is known here. One of your own, with the columns task, "
            "model, energy_j (joules) and queries, needs no import: `energylab release make --from FILE`, or "
            "energylab.read(FILE)"
        )
    titles = "\n".join(f"  {reader.name}: {reader.title}" for reader in readers)
    raise FormatError(f"{source.name} is of no known format; known are\n{titles}")


#: What a part of a file that is of another kind than its format says raises while it is read.
_OTHER_KIND = (TypeError, AttributeError, LookupError, ValueError, ArithmeticError)


def _read(reader: Reader, source: Source, asked: Asked) -> list[Session]:
    """Read a file's sessions; a part of it that is not of its format's shape is one clear error."""
    try:
        return reader.read(source, asked)
    except _OTHER_KIND as error:
        raise FormatError(
            f"{source.name} is damaged: a part of it is not what a file of format {reader.name} holds "
            f"({type(error).__name__}: {error}); get it again"
        ) from error


def _reported(source: Source, sources: Sequence[Source]) -> Source | None:
    """Return the report that a file repeats, where it is imported too."""
    if source.file_name not in (SUMMARY, TEXT, COPY):
        return None
    folder = source.name[: len(source.name) - len(source.file_name)]
    return next((other for other in sources if other.name == f"{folder}{REPORT}"), None)


def _record(session: Session, source: Source, format: str, asked: Asked, output: Path, now: dt.datetime) -> Imported:
    try:
        record = to_record(session, source, format, asked, now)
    except _OTHER_KIND as error:
        raise FormatError(
            f"{source.name} {session.row}: a fact of it is not what a record can hold: {error}; correct the file"
        ) from error
    folder = output / format / record.record_id
    earlier = _earlier(folder)
    return Imported(source.name, format, earlier or record, folder / store.FILE_NAME, totals(session), earlier is None)


def _earlier(folder: Path) -> Record | None:
    """Return the record that the same file gave before; a damaged one is written again."""
    try:
        return store.read_record(folder)
    except EnergylabError:
        return None


def _check(source: Source, made: Sequence[Imported]) -> Checked:
    """Set a file that repeats a report beside it: a summary's total, a copy's every figure.

    Raises
    ------
    FormatError
        If they differ by more than rounding.
    """
    folder = source.name[: len(source.name) - len(source.file_name)]
    report = next(each for each in made if each.source == f"{folder}{REPORT}")
    if source.file_name == COPY:
        beside = source.neighbour(REPORT)
        if beside is None or source.json.get("report") != beside.json:
            raise FormatError(f"{source.name} and {report.source} are not of the same session; import them apart")
        return Checked(source.name, report.source)
    stated = source.json["total"] if source.file_name == SUMMARY else source.text.strip().replace(",", "")
    total_wh = number(stated, "total", source.name)
    rated_wh = report.rated.with_wh and report.rated.with_wh * report.record.queries / 1000
    if rated_wh is None or total_wh is None or abs(total_wh - rated_wh) > 3 * ROUNDING_WH:
        raise FormatError(
            f"{source.name} says {stated} Wh, and the report beside it adds up to "
            f"{'nothing' if rated_wh is None else format(rated_wh, '.4g')} Wh; import the one you trust alone"
        )
    return Checked(source.name, report.source)
