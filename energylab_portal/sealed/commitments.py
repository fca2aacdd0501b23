"""Salted commitments: what stays private is fixed now, and can be shown to be what it was later.

A commitment is ``sha256(salt ‖ canonical JSON of [name, value])`` with 32 random bytes of salt of its own, so that
nobody can try likely values. The opening file holds salts and values; its owner shows one entry of it, or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from energylab.errors import BundleError
from energylab.record import canonical_json

SALT_BYTES = 32


def commit(private: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Commit to every private value.

    Parameters
    ----------
    private : mapping
        Name to value; values as JSON holds them.

    Returns
    -------
    commitments : dict of str to str
        Name to hex digest: public.
    opening : dict of str to dict
        Name to ``{"salt": hex, "value": …}``: the owner's.
    """
    opening = {name: {"salt": secrets.token_hex(SALT_BYTES), "value": value} for name, value in private.items()}
    return {name: digest(name, entry) for name, entry in opening.items()}, opening


def digest(name: str, entry: Mapping[str, Any]) -> str:
    """Return the commitment that one entry of an opening opens."""
    salt = bytes.fromhex(entry["salt"])
    return hashlib.sha256(salt + canonical_json([name, entry["value"]])).hexdigest()


def write_opening(opening: Mapping[str, Any], path: str | os.PathLike) -> Path:
    """Write an opening file, readable by its owner alone; never over another.

    Raises
    ------
    BundleError
        If it exists or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(opening, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise BundleError(f"{path} exists; an opening is never overwritten: name another folder") from None
    except OSError as error:
        raise BundleError(f"cannot write {path}: {error.strerror}") from error
    return Path(path)


def check_opening(commitments: Mapping[str, str], opening: Mapping[str, Any]) -> dict[str, bool]:
    """Return, for every entry shown, whether it is what was committed to.

    Raises
    ------
    BundleError
        If an entry has no salt and value, or names nothing that was committed to.
    """
    found = {}
    for name, entry in opening.items():
        if name not in commitments:
            raise BundleError(f"nothing was committed to as {name!r}; committed: {', '.join(sorted(commitments))}")
        if not (isinstance(entry, dict) and isinstance(entry.get("salt"), str) and "value" in entry):
            raise BundleError(f"the opening of {name!r} needs a salt and a value")
        try:
            found[name] = secrets.compare_digest(digest(name, entry), commitments[name])
        except ValueError as error:
            raise BundleError(f"the opening of {name!r}: {error}") from None
    return found
