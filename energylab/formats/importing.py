"""Import files: detect the format, read the sessions, write their records; equal sessions count once."""

from __future__ import annotations

import datetime as dt
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from energylab import store
from energylab.csv_reader import Sheet, read_sheet
from energylab.errors import DataError, FormatError, RecordError, unknown_name
from energylab.files import read_json
from energylab.formats.common import Asked, Session, parse, settled
from energylab.formats.to_record import Total, to_record, total
from energylab.record import Record

#: Maximal unpacked size of an archive in bytes.
MOST_BYTES = 256 * 2**20

#: A report, the copy of it that optimum-benchmark writes with its configuration, and the summary of it.
REPORT, COPY, CONFIG, SUMMARY = (
    "benchmark_report.json", "benchmark.json", "benchmark_config.json", "GPU_ENERGY_SUMMARY.json"
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One file to import, and the configuration of optimum-benchmark in the same folder, if any."""

    name: str
    content: bytes = field(repr=False)
    beside: bytes | None = field(default=None, repr=False)

    @property
    def config(self) -> Any:
        """The configuration in the same folder; empty if there is none."""
        return {} if self.beside is None else Source(CONFIG, self.beside).json

    @property
    def file_name(self) -> str:
        """The last part of the name."""
        return re.split(r"[/\\:]", self.name)[-1]

    @cached_property
    def text(self) -> str:
        """The content as UTF-8."""
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None

    @cached_property
    def json(self) -> Any:
        """The content as JSON, independent of the file's extension; None if it is not JSON."""
        looks = self.text.lstrip()[:1] in ("{", "[") or self.file_name.lower().endswith(".json")
        return read_json(self.text, self.name, FormatError) if looks else None

    @property
    def keys(self) -> frozenset[str]:
        """The names of a JSON object; empty if the file has none."""
        return frozenset(self.json) if isinstance(self.json, dict) else frozenset()

    @cached_property
    def sheet(self) -> Sheet | None:
        """The cells of a table, independent of the file's extension; None if it is no table."""
        if self.json is not None:
            return None
        try:
            sheet = read_sheet(Path(self.file_name), self.content, self.name)
        except DataError as error:
            raise FormatError(str(error)) from None
        return sheet if len(sheet.columns) > 1 else None

    @property
    def columns(self) -> frozenset[str]:
        """The column names of a table; empty if the file is no table."""
        return frozenset(self.sheet.columns) if self.sheet else frozenset()

    @cached_property
    def rows(self) -> list[tuple[str, dict[str, str]]]:
        """The rows of a table, each with its number for error messages; decimal commas become points."""
        comma = self.sheet.delimiter != ","
        return [
            (f"row {number}", {name: _point(cell) if comma else cell for name, cell in row.items()})
            for number, row in self.sheet.cells.to_dict("index").items()
        ]

    def check_column(self, name: str | None) -> None:
        """Raise FormatError if the table lacks a column."""
        if name is not None and name not in self.columns:
            raise FormatError(f"{self.name} has no column {name!r}; it has {', '.join(sorted(self.columns))}")


def _point(cell: str) -> str:
    """Return a cell with a decimal point instead of a comma; other cells unchanged."""
    return cell.replace(",", ".") if re.match(r"[+-]?\d+,\d", cell) and cell.count(",") == 1 else cell


@dataclass(frozen=True)
class Format:
    """A format: its name, its title, a test whether a file has it, and a reader of its sessions."""

    name: str
    title: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source, Asked], list[Session]]


def formats() -> dict[str, Format]:
    """Return all readable formats by name."""
    from energylab.formats import ai_energy_score, codecarbon, leaderboard_csv, ml_energy, optimum_benchmark, zeus

    modules = (optimum_benchmark, ai_energy_score, leaderboard_csv, codecarbon, zeus, ml_energy)
    return {one.name: one for module in modules for one in module.FORMATS}


@dataclass(frozen=True)
class Imported:
    """One imported session."""

    source: str  # the file
    format: str  # its name
    record: Record
    path: Path  # of the record's file
    rated: Total  # the figure, with and without runs of which a measure is invalid
    new: bool  # False where the record was there already


def import_files(
    paths: Iterable[str | os.PathLike],
    output: str | os.PathLike = "results/imported",
    asked: Asked | None = None,
    format: str | None = None,
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
) -> list[Imported]:
    """Import files into records of energy kind `imported`; nothing is written if one of them cannot be read.

    Parameters
    ----------
    paths : iterable of path
        Reports, tables, or zip archives of them.
    output : path
        Records go to ``OUTPUT/FORMAT/RECORD_ID/record.json``. A session has one id, made of what was measured: from
        whichever file it is read, and however often, it is one record.
    asked : Asked, optional
        What the files do not state.
    format : str, optional
        Name of the format, whatever the file is called; by default each file shows its own.
    now : callable
        The time, for records of files that state none.

    Returns
    -------
    list of Imported
        In the order of the files. A summary whose report is imported too is only checked against it.

    Raises
    ------
    FormatError
        If a file is of no known format, contradicts itself, or lacks a fact that must be had.
    """
    asked, known = asked or Asked(), formats()
    if format is not None and format not in known:
        raise unknown_name("format", format, known)
    wanted = [known[format]] if format else list(known.values())
    sources = [source for path in paths for source in _opened(Path(path), wanted)]
    reports = {source.name: _report_of(source, sources) for source in sources}
    made: dict[Path, Imported] = {}
    held: dict[str, Path] = {}  # by file, where its session is
    for source in (source for source in sources if reports[source.name] is None):
        kind = _choose(source, wanted, format)
        for one in _imported(source, kind, asked, Path(output) / kind.name, now()):
            held[source.name] = one.path
            if one.path not in made or _later(one.record, made[one.path].record):
                made[one.path] = one
    for source, report in ((source, reports[source.name]) for source in sources if reports[source.name]):
        _check(source, report, made[held[report.name]])
    for each in made.values():
        if each.new:
            each.path.unlink(missing_ok=True)  # of a run that went on since, or damaged
            store.write(each.record, each.path.parent)
    return list(made.values())


def _opened(path: Path, wanted: Sequence[Format]) -> list[Source]:
    """Return the files of a path; for an archive at least one, and only possible reports."""
    try:
        if not zipfile.is_zipfile(path):
            config = path.parent / CONFIG
            return [Source(str(path), path.read_bytes(), config.read_bytes() if config.is_file() else None)]
        members = _members(path)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}; name a file") from error
    found = [
        Source(f"{path}:{name}", content, members.get(str(PurePosixPath(name).with_name(CONFIG))))
        for name, content in members.items()
    ]
    known = [source for source in found if _is_any(source, wanted)]
    if not known:
        raise FormatError(f"{path} has no file of a known format; its files: {', '.join(members)}")
    return known


def _members(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in infos) > MOST_BYTES:
                raise FormatError(f"{path} unpacks to more than {MOST_BYTES // 2**20} MiB; name the report itself")
            return {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise FormatError(f"{path} is a damaged archive ({error}); download it again") from None


def _is_any(source: Source, wanted: Sequence[Format]) -> bool:
    """Whether a member of an archive has a known format; unreadable ones are logs or images."""
    try:
        return any(kind.recognises(source) for kind in wanted)
    except FormatError:
        if source.file_name.lower().endswith((".json", ".csv")):
            raise
        return False


def _choose(source: Source, wanted: Sequence[Format], format: str | None) -> Format:
    found = [kind for kind in wanted if kind.recognises(source)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(kind.name for kind in found)
        raise FormatError(f"{source.name} could have the format {names}; choose one with --format")
    if format is not None:
        raise FormatError(f"{source.name} does not have the format {format}; leave out --format")
    titles = "\n".join(f"  {kind.name}: {kind.title}" for kind in wanted)
    raise FormatError(
        f"{source.name} has no known format; known formats:\n{titles}\nYour own table, with the columns task, model, "
        "energy_j (joules) and queries, needs no import: `energylab release make --from FILE`, or energylab.read(FILE)"
    )


def _report_of(source: Source, sources: Sequence[Source]) -> Source | None:
    """Return the report that a file repeats, if it is imported too."""
    if source.file_name not in (SUMMARY, COPY):
        return None
    report = source.name.removesuffix(source.file_name) + REPORT
    return next((other for other in sources if other.name == report), None)


def _imported(source: Source, kind: Format, asked: Asked, folder: Path, now: dt.datetime) -> Iterable[Imported]:
    for session in settled(kind.read(source, asked), asked, source.name):
        try:
            record = to_record(session, source.file_name, source.content, kind.name, asked, now)
        except ValueError as error:  # a text, a number or a time that no record can hold
            raise FormatError(f"{source.name} {session.row}: a value is not valid in a record: {error}") from error
        path = folder / record.record_id / store.FILE_NAME
        there = _readable(path)
        new = there is None or _later(record, there)
        yield Imported(source.name, kind.name, record if new else there, path, total(session), new)


def _readable(path: Path) -> Record | None:
    try:
        return store.read_record(path) if path.is_file() else None
    except RecordError:
        return None  # damaged: importing its session again replaces it


def _later(record: Record, earlier: Record) -> bool:
    """Whether a record is a later sum of the run of an earlier one, by a tracker that writes cumulative sums."""
    ends = [sum(window.duration_s or 0.0 for window in each.windows) for each in (record, earlier)]
    return ends[0] > ends[1]


def _check(source: Source, report: Source, made: Imported) -> None:
    """Compare a file with the report that it repeats: a summary's total, or all energies of a copy."""
    from energylab.formats.ai_energy_score import ROUNDING_WH, Summary

    if source.file_name == COPY:
        if source.json.get("report") != report.json:
            raise FormatError(f"{source.name} and {report.name} are not of the same session; import them separately")
        return
    total_wh, rated = parse(Summary, source.json, source.name).total, made.rated.with_wh
    rated_wh = rated and rated * made.record.queries / 1000
    if None in (rated_wh, total_wh) or abs(total_wh - rated_wh) > 3 * ROUNDING_WH:
        said, sums = ("nothing" if wh is None else f"{wh:.6g} Wh" for wh in (total_wh, rated_wh))
        raise FormatError(
            f"{source.name} has {said}, but the sum of its report is {sums}; import only the one that you trust"
        )
