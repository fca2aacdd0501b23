"""Import files: find each one's format, read its sessions, write their records; equal sessions count once."""

from __future__ import annotations

import datetime as dt
import os
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from energylab import store
from energylab.errors import DataError, EnergylabError, FormatError, unknown_name
from energylab.files import read_json
from energylab.formats.common import RATED, Asked, Session, Total, totals
from energylab.formats.to_record import to_record
from energylab.record import Record
from energylab.sheet import Sheet, read_sheet

#: More than any report is; an archive that unpacks to more is refused.
MOST_BYTES = 256 * 2**20

#: A report, the copy of it that optimum-benchmark writes with its configuration, and the summaries of it.
REPORT, COPY, SUMMARY, TEXT = (
    "benchmark_report.json", "benchmark.json", "GPU_ENERGY_SUMMARY.json", "GPU_ENERGY_WH.txt"
)  # fmt: skip

#: Largest rounding error of a figure of the summaries, in Wh.
ROUNDING_WH = 0.005


@dataclass(frozen=True)
class Source:
    """One file to import."""

    name: str
    content: bytes
    beside: Mapping[str, bytes | Path] = field(default_factory=dict, repr=False)

    @property
    def file_name(self) -> str:
        """The last part of the name."""
        return PurePosixPath(self.name.rpartition(":")[2].replace("\\", "/")).name

    @property
    def folder(self) -> str:
        """The name without its last part."""
        return self.name[: len(self.name) - len(self.file_name)]

    @cached_property
    def text(self) -> str:
        """The content as UTF-8."""
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None

    @cached_property
    def json(self) -> Any:
        """The content as JSON, whatever the file's ending; None where it is of another kind."""
        looks = self.text.lstrip()[:1] in ("{", "[") or self.file_name.lower().endswith(".json")
        return read_json(self.text, self.name, FormatError) if looks else None

    @cached_property
    def sheet(self) -> Sheet | None:
        """The cells of a table, whatever the file's ending; None where it is of another kind."""
        if self.json is not None or self.file_name == TEXT:
            return None
        try:
            sheet = read_sheet(Path(self.file_name), self.content, self.name)
        except DataError as error:
            raise FormatError(str(error)) from None
        return sheet if len(sheet.columns) > 1 else None

    @property
    def columns(self) -> frozenset[str]:
        """The column names of a table; empty where the file is of another kind."""
        return frozenset(self.sheet.columns) if self.sheet else frozenset()

    @cached_property
    def rows(self) -> list[tuple[str, dict[str, str]]]:
        """The rows of a table, each with its place as errors name it; decimal signs are points."""
        comma = self.sheet.delimiter != ","
        found = self.sheet.cells.to_dict("index").items()
        return [
            (f"{self.name}, row {number}", {name: _point(cell) if comma else cell for name, cell in row.items()})
            for number, row in found
        ]

    def neighbour(self, name: str) -> Source | None:
        """Return the file called `name` beside this one, or None."""
        found = self.beside.get(name)
        if found is None:
            return None
        content = found if isinstance(found, bytes) else found.read_bytes()
        return Source(f"{self.folder}{name}", content, self.beside)


def _point(cell: str) -> str:
    """Return a cell with a decimal comma as a number with a point; any other cell as it is."""
    whole, _, part = cell.partition(",")
    return f"{whole}.{part}" if whole.lstrip("+-").isdigit() and part[:1].isdigit() else cell


@dataclass(frozen=True)
class Format:
    """A format: its name, a title for people, whether a file is of it, and what sessions a file holds.

    One that is known by the file's name alone is read from a file of any name where the user names the format.
    """

    name: str
    title: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source, Asked], list[Session]]
    by_name: bool = False


def formats() -> dict[str, Format]:
    """Return every format that can be read, by name."""
    from energylab.formats import ai_energy_score, codecarbon, leaderboard, ml_energy, optimum_benchmark, zeus

    modules = (optimum_benchmark, ai_energy_score, leaderboard, codecarbon, zeus, ml_energy)
    return {one.name: one for module in modules for one in module.FORMATS}


@dataclass(frozen=True)
class Imported:
    """One session that was imported."""

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
    """A file that repeats a report imported with it, a summary or a copy: it agrees, and is no session of its own."""

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
    list of Imported or Checked
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
    chosen = [(source, _choose(source, wanted, format)) for source in sources if not _report_of(source, sources)]
    made: dict[Path, Imported] = {}
    for source, kind in chosen:
        for session in kind.read(source, asked):
            one = _imported(session, source, kind.name, asked, Path(output), now())
            if one.path not in made or _later(one.record, made[one.path].record):
                made[one.path] = one
    checked = [_check(source, list(made.values())) for source in sources if _report_of(source, sources)]
    for each in made.values():
        if each.new:
            each.path.unlink(missing_ok=True)  # of a run that went on since, or damaged
            store.write(each.record, each.path.parent)
    return [*made.values(), *checked]


def _opened(path: Path, wanted: Sequence[Format]) -> list[Source]:
    """Return the files of a path; of an archive only those that may be reports, at least one."""
    try:
        if not zipfile.is_zipfile(path):
            beside = {p.name: p for p in sorted(path.parent.glob("*.json")) if p.is_file() and p != path}
            return [Source(str(path), path.read_bytes(), beside)]
        sources = _members(path)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}; name a file") from error
    known = [source for source in sources if _is_any(source, wanted)]
    if not known:
        raise FormatError(f"{path} holds no file of a known format; it holds {', '.join(s.file_name for s in sources)}")
    return known


def _is_any(source: Source, wanted: Sequence[Format]) -> bool:
    """Say whether a member of an archive is of a known format; what cannot be read at all is a log or a picture."""
    try:
        return any(kind.recognises(source) for kind in wanted)
    except FormatError:
        if source.file_name.lower().endswith((".json", ".csv")):
            raise
        return False


def _members(path: Path) -> list[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in infos) > MOST_BYTES:
                raise FormatError(f"{path} unpacks to more than {MOST_BYTES // 2**20} MiB; name the report itself")
            contents = {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise FormatError(f"{path} is a damaged archive ({error}); get it again") from None
    folder = {name: PurePosixPath(name).parent for name in contents}
    beside = {
        name: {PurePosixPath(n).name: c for n, c in contents.items() if n != name and folder[n] == folder[name]}
        for name in contents
    }
    return [Source(f"{path}:{name}", content, beside[name]) for name, content in contents.items()]


def _choose(source: Source, wanted: Sequence[Format], format: str | None) -> Format:
    found = [kind for kind in wanted if kind.recognises(source)]
    if len(found) == 1 or (format is not None and wanted[0].by_name):
        return (found or wanted)[0]
    if format is not None:
        raise FormatError(f"{source.name} is not of format {format}: {wanted[0].title}; leave --format out to see")
    if found:
        names = ", ".join(kind.name for kind in found)
        raise FormatError(f"{source.name} could be {names}; say which with --format")
    if source.columns >= {"task", "model", "energy_j", "queries"}:
        raise FormatError(
            f"{source.name} is a table of your own and needs no import: `energylab release make --from FILE`, or "
            "energylab.read(FILE)"
        )
    titles = "\n".join(f"  {kind.name}: {kind.title}" for kind in wanted)
    raise FormatError(
        f"{source.name} is of no known format; known are\n{titles}\nA table of your own, with the columns task, model, "
        "energy_j (joules) and queries, needs no import: `energylab release make --from FILE`, or energylab.read(FILE)"
    )


def _report_of(source: Source, sources: Sequence[Source]) -> Source | None:
    """Return the report that a file repeats, where it is imported too."""
    if source.file_name not in (SUMMARY, TEXT, COPY):
        return None
    return next((other for other in sources if other.name == f"{source.folder}{REPORT}"), None)


def _imported(session: Session, source: Source, format: str, asked: Asked, output: Path, now: dt.datetime) -> Imported:
    try:
        record = to_record(session, source.file_name, source.content, format, asked, now)
    except ValueError as error:  # a text, a number or a time that no record can hold
        raise FormatError(f"{source.name} {session.row}: a fact is not what a record can hold: {error}") from error
    folder = output / format / record.record_id
    try:
        earlier = store.read_record(folder)
    except EnergylabError:
        earlier = None
    new = earlier is None or _later(record, earlier)
    return Imported(source.name, format, record if new else earlier, folder / store.FILE_NAME, totals(session), new)


def _later(record: Record, earlier: Record) -> bool:
    """Say whether a record is of the same run as an earlier one, some time on: a tracker that writes sums so far."""
    ends = [sum(window.duration_s or 0.0 for window in each.windows) for each in (record, earlier)]
    return ends[0] > ends[1]


def _check(source: Source, made: Sequence[Imported]) -> Checked:
    """Set a file that repeats a report beside it: a summary's total, a copy's every figure."""
    from energylab.formats.ai_energy_score import stated_total

    report = next(each for each in made if each.source == f"{source.folder}{REPORT}")
    if source.file_name == COPY:
        beside = source.neighbour(REPORT)
        if beside is None or source.json.get("report") != beside.json:
            raise FormatError(f"{source.name} and {report.source} are not of the same session; import them apart")
        return Checked(source.name, report.source)
    total_wh, rated = stated_total(source), report.rated.with_wh
    rated_wh = rated and rated * report.record.queries / 1000
    if rated_wh is None or total_wh is None or abs(total_wh - rated_wh) > 3 * ROUNDING_WH:
        raise FormatError(
            f"{source.name} says {total_wh:.2f} Wh, and the report beside it adds up to "
            f"{'nothing' if rated_wh is None else format(rated_wh, '.4g')} Wh; import the one you trust alone"
        )
    return Checked(source.name, report.source)
