"""Names of a data set's files: which are safe, which are nobody's, and how a message tells them."""

import re
import unicodedata

_LONGEST = 80  # characters of a name that a message tells

#: What systems and sites leave beside pictures; whatever begins with a dot is left out, too.
_LEFTOVERS = {"thumbs.db", "desktop.ini", "readme.md"}
_DRIVE = re.compile(r"[A-Za-z]:")


def clean_name(name: str) -> str | None:
    """The name with `/` between its parts, in Unicode's form NFC; None for one that leads out of the data set.

    Some programs on Windows write backslashes, and macOS writes accents as characters of their own (NFD).
    """
    name = unicodedata.normalize("NFC", name.replace("\\", "/"))
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or _DRIVE.match(name) or ".." in parts or not parts:
        return None
    return "/".join(parts)


def is_ignored(name: str) -> bool:
    """Whether a clean name is of what no one means to be in a data set."""
    parts = name.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return hidden or parts[-1].lower() in _LEFTOVERS


def told(name: str) -> str:
    """The name in one short line, whatever characters it has."""
    if not name:
        return "(a file without a name)"
    shown = "".join(character if character.isprintable() else "?" for character in name)
    return shown if len(shown) <= _LONGEST else f"...{shown[-_LONGEST:]}"


def stem(name: str) -> str:
    """The name without its extension, by which captions find their pictures."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + (file.rpartition(".")[0] or file)
