"""Names made by strangers, as text: on a page, in a file name, in a cell of a spreadsheet."""

from __future__ import annotations

import hashlib
import re
import unicodedata

_JOINERS = "\u200c\u200d"  # emoji sequences and several scripts need them
_LAYOUT = "\n\t"
_FORMULA = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: full width


def visible(text: str) -> str:
    """Return `text` with every character that hides, reorders or breaks text written out as ``⟨U+202E⟩``.

    Parameters
    ----------
    text : str
        Any text, for example a model's name.

    Returns
    -------
    str
        Without control characters (newline and tab stay), direction overrides, invisible format characters, lone
        surrogates and non-characters: legal and plain in HTML, XML and UTF-8.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(mark):04X}⟩" if _hides(mark) else mark for mark in text)


def _hides(mark: str) -> bool:
    if mark in _JOINERS or mark in _LAYOUT:
        return False
    code = ord(mark)
    non_character = 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return non_character or unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def one_line(text: str) -> str:
    """Return `text` as `visible` does, newline and tab written out as well."""
    return visible(text).replace("\n", "⟨U+000A⟩").replace("\t", "⟨U+0009⟩")


def slug(name: str) -> str:
    """Return a short file name for `name`: readable, plain ASCII, and different for different names.

    Parameters
    ----------
    name : str
        A model's name.

    Returns
    -------
    str
        Up to 40 characters of the name, a hyphen, and eight hex digits of its sha256.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-") or "model"
    return f"{readable}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def anchor(text: str) -> str:
    """Return `text` as the id of an element: itself where it is plain, else its slug."""
    return text if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,59}", text) else slug(text)


def csv_text(text: str) -> str:
    """Return `text` so that no spreadsheet takes it for a formula: a leading apostrophe where it would.

    References
    ----------
    OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection
    """
    safe = one_line(text)
    return f"'{safe}" if safe.lstrip().startswith(_FORMULA) else safe
