"""A file as a reader of a format sees it: its name, its content, and the files beside it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from energylab.errors import FormatError

#: More than any report is; an archive that unpacks to more is refused.
MOST_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Source:
    """One file to import.

    Attributes
    ----------
    name : str
        As the user named it; inside an archive ``ARCHIVE:MEMBER``.
    content : bytes
    beside : mapping of str to bytes or Path
        Files of the same folder or archive, by their names.
    """

    name: str
    content: bytes
    beside: Mapping[str, bytes | Path] = field(default_factory=dict, repr=False)

    @property
    def file_name(self) -> str:
        """The last part of the name."""
        return PurePosixPath(self.name.rpartition(":")[2].replace("\\", "/")).name

    @property
    def sha256(self) -> str:
        """Digest of the content: what a record names as its origin."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def text(self) -> str:
        """The content as UTF-8."""
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise FormatError(f"{self.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None

    @cached_property
    def json(self) -> Any:
        """The content as JSON; None where the file is of another kind.

        Raises
        ------
        FormatError
            If it should be JSON by its name and is not.
        """
        if not self.file_name.lower().endswith(".json"):
            return None
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise FormatError(f"{self.name} is truncated or not JSON ({error}); get it again") from None

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of a CSV; empty where the file is of another kind."""
        if not self.file_name.lower().endswith(".csv"):
            return []
        reader = csv.DictReader(io.StringIO(self.text, newline=""))
        if reader.fieldnames is None or len(set(reader.fieldnames)) != len(reader.fieldnames):
            raise FormatError(f"{self.name} needs one header line with a different name for every column")
        rows = list(reader)
        torn = next((number for number, row in enumerate(rows, start=2) if None in row or None in row.values()), None)
        if torn is not None:
            raise FormatError(f"{self.name}, row {torn}: has not as many cells as the header; the file is damaged")
        return rows

    @property
    def columns(self) -> set[str]:
        """The column names of a CSV."""
        return set(self.rows[0]) if self.rows else set()

    def neighbour(self, name: str) -> Source | None:
        """Return the file called `name` beside this one, or None."""
        found = self.beside.get(name)
        if found is None:
            return None
        content = found if isinstance(found, bytes) else found.read_bytes()
        folder = self.name[: len(self.name) - len(self.file_name)]
        return Source(f"{folder}{name}", content, self.beside)


def open_sources(path: Path) -> list[Source]:
    """Return what a path holds: the file, or the members of a zip archive.

    Raises
    ------
    FormatError
        If it cannot be read, or the archive is damaged or too large.
    """
    try:
        if zipfile.is_zipfile(path):
            return _members(path)
        return [Source(str(path), path.read_bytes(), _neighbours(path))]
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror}; name a file") from error


def _neighbours(path: Path) -> dict[str, Path]:
    return {other.name: other for other in sorted(path.parent.glob("*.json")) if other.is_file() and other != path}


def _members(path: Path) -> list[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in infos) > MOST_BYTES:
                raise FormatError(f"{path} unpacks to more than {MOST_BYTES // 2**20} MiB; name the report itself")
            contents = {info.filename: archive.read(info) for info in infos}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise FormatError(f"{path} is a damaged archive ({error}); get it again") from None
    return [Source(f"{path}:{name}", content, _folder(contents, name)) for name, content in contents.items()]


def _folder(contents: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """Return the other members of the same folder of an archive."""
    parent = PurePosixPath(name).parent
    return {
        PurePosixPath(other).name: content
        for other, content in contents.items()
        if other != name and PurePosixPath(other).parent == parent
    }
