"""API keys: made once, kept by whoever calls, and known here by their hashes alone."""

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["Keys", "NamedHash", "entry_of", "new_key", "read_hashes"]

_log: Final = logging.getLogger(__name__)

# A prefix of its own lets scanners find a key that was published by mistake.
_PREFIX: Final = "pcdm_"
_ENTROPY_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH: Final = re.compile(r"[0-9a-fA-F]{64}")
_FORM: Final = "NAME:HASH (the SHA-256 of a key in 64 hexadecimal digits), as `pcdm key NAME` prints it"


def new_key() -> str:
    """A key of 256 random bits, in characters that need no escape anywhere."""
    return _PREFIX + secrets.token_urlsafe(_ENTROPY_BYTES)


@dataclass(frozen=True)
class NamedHash:
    """What is known of a key.

    Attributes:
        name: Whose it is; several keys may share one, while one takes the place of the other.
        digest: Its SHA-256.
    """

    name: str
    digest: bytes = field(repr=False)


def entry_of(name: str, key: str) -> str:
    """The `NAME:HASH` by which a server knows a key again.

    Raises:
        ValueError: The name is not one for a log line.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"a key's name has 1 to 64 letters, digits and . _ -; got {name!r}")
    return f"{name}:{_digest(key).hex()}"


def read_hashes(text: str) -> tuple[NamedHash, ...]:
    """Read `NAME:HASH` entries between white space or commas; from `#` on, a line is a comment.

    Raises:
        ValueError: There is no entry, or one has another form. The entry is not repeated: it may be a key.
    """
    lines = (line.partition("#")[0] for line in text.splitlines())
    entries = [entry for line in lines for entry in re.split(r"[\s,]+", line) if entry]
    if not entries:
        raise ValueError(f"there is no key; write at least one {_FORM}")
    return tuple(_named_hash(number, entry) for number, entry in enumerate(entries, 1))


class Keys:
    """The keys that are accepted: those of a setting, and those of a file, which is read again when it changes.

    Args:
        given: Those of a setting.
        file: A file for `read_hashes`, as Docker and Kubernetes mount secrets.

    Raises:
        ValueError: An entry of the file is malformed, or there is none.
        OSError: The file cannot be read.
    """

    def __init__(self, given: Sequence[NamedHash] = (), file: Path | None = None) -> None:
        self._given = tuple(given)
        self._file = file
        self._of_file: tuple[NamedHash, ...] = ()
        self._stamp: tuple[int, ...] | None = None
        if file is not None:
            # First, so that a file that changes meanwhile is read again.
            self._stamp = _stamp(file)
            self._of_file = _read(file)

    def __bool__(self) -> bool:
        """Whether keys are asked for at all."""
        return bool(self._given) or self._file is not None

    def name_of(self, key: str) -> str | None:
        """Whose key it is; None if it is not known. Takes as long for any key."""
        self._refresh()
        digest = _digest(key)
        found = None
        for known in (*self._given, *self._of_file):
            if hmac.compare_digest(known.digest, digest):  # without an end: how far it got would tell
                found = known.name
        return found

    def _refresh(self) -> None:
        """Read the file again if it is another than before; one that cannot be used leaves the keys as they are."""
        if self._file is None:
            return
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._of_file = _read(self._file)
        except (OSError, ValueError) as error:
            _log.error("the API keys stay as they were: %s", error)
        else:
            _log.info("read the API keys of %s", ", ".join(_names(self._of_file)))


def _digest(key: str) -> bytes:
    # A fast hash will do: nobody can go through the values of a key of 256 random bits.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _named_hash(number: int, entry: str) -> NamedHash:
    name, _, digest = entry.partition(":")
    if not (_NAME.fullmatch(name) and _HASH.fullmatch(digest)):
        raise ValueError(f"entry {number} is not of the form {_FORM}")
    return NamedHash(name, bytes.fromhex(digest))


def _read(file: Path) -> tuple[NamedHash, ...]:
    try:
        return read_hashes(file.read_text(encoding="utf-8"))
    except ValueError as error:  # a text that is not UTF-8 among them, whose error repeats it
        told = "it is not UTF-8" if isinstance(error, UnicodeError) else error
        raise ValueError(f"API keys in {file}: {told}") from None
    except OSError as error:
        raise OSError(f"API keys in {file}: {error.strerror}") from error


def _stamp(file: Path) -> tuple[int, ...]:
    """What changes when the file is written, when a link to it is turned to another, and when it comes or goes."""
    try:
        status = file.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _names(hashes: Sequence[NamedHash]) -> Iterator[str]:
    return iter(sorted({known.name for known in hashes}))
