"""Opening what was committed to: an owner shows a part, and anyone checks it against the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from energylab.errors import BundleError
from energylab_portal.sealed import commitments, envelope, statement
from energylab_portal.sealed.strict import parse


def check(bundle: Path, opening: Path, keys: Mapping[str, str]) -> dict[str, bool]:
    """Compare an opening with a bundle.

    Parameters
    ----------
    bundle : Path
        The bundle's file.
    opening : Path
        The owner's opening file, or a part of it.
    keys : mapping of str to str
        Enrolled keys.

    Returns
    -------
    dict of str to bool
        For every entry shown, whether it is what was committed to.

    Raises
    ------
    BundleError
        If the bundle's signature does not hold, or one of the files cannot be read.
    """
    sealed = envelope.read(envelope.read_file(bundle))
    if not envelope.signature_holds(sealed, keys):
        raise BundleError(f"{bundle}: no given key made its signature; pass the owner's public key with --key")
    run, _ = statement.read(sealed.payload)
    shown = parse(envelope.read_file(opening), str(opening))
    if not isinstance(shown, dict):
        raise BundleError(f"{opening} is not an opening: it holds no names")
    return commitments.check_opening(run.commitments, shown)
