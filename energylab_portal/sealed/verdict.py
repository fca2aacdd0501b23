"""What the verification of a bundle says: a verdict, made of one check after another, each in words."""

from __future__ import annotations

from dataclasses import dataclass

from energylab.record import Record


@dataclass(frozen=True)
class Check:
    """One check of a bundle.

    Attributes
    ----------
    name : str
        What was looked at, in one or two words: ``signature``, ``timeline``.
    passed : bool or None
        None where the bundle holds nothing by which it could be decided; the words say why.
    words : str
        What was found, in one sentence.
    """

    name: str
    passed: bool | None
    words: str


@dataclass(frozen=True)
class Verdict:
    """What is known of a bundle after every check.

    Attributes
    ----------
    accepted : bool
        Whether the key is known and no check failed.
    key_id : str or None
        sha256 (hex) of the raw Ed25519 public key that signed; None where the file names none.
    key_known : bool
        Whether that key is among those given.
    digest : str or None
        sha256 (hex) of the signed statement: the same for every copy of one bundle. None where there is none.
    checks : tuple of Check
        In the order they were made; the first failure of the file itself ends them.
    record : Record or None
        The public record; None unless signature, digests and schema hold.
    attestations : dict of str to bool or None
        What the submitter attests, by name: ``public``, ``integrity``, ``representative``; None with no record.
    """

    accepted: bool
    key_id: str | None
    key_known: bool
    digest: str | None
    checks: tuple[Check, ...]
    record: Record | None
    attestations: dict[str, bool] | None

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that speak against the bundle."""
        return tuple(check for check in self.checks if check.passed is False)
