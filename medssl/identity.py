"""Pseudonyms: keyed hashes in place of identifiers, with a key that stays at the site.

Equal identifiers give equal hashes, in every folder scanned with the same key; without the key a
hash cannot be traced back by trying out all patient numbers.
"""

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from sslcore.errors import ConfigError

KEY_FILE_VARIABLE = "MEDSSL_KEY_FILE"
_KEY_BYTES = 32
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class SiteKey:
    """The secret of this site. It is never shown, and never written but to its own file."""

    secret: bytes = field(repr=False)

    def hash(self, *parts: str) -> str:
        """Return 16 hex digits, HMAC-SHA256 of the parts, which are told apart.

        Args:
            parts: What kind of thing is named, such as "patient", then its name.
        """
        text = "\x1f".join(parts).encode("utf-8", "surrogateescape")
        return hmac.digest(self.secret, text, "sha256").hex()[:_DIGITS]

    def pads(self, names: Iterable[str], size: int) -> bytes:
        """Return `size` bytes for each name, which hide as many others when they are added bitwise.

        Made by BLAKE2b with the key, four times as fast as HMAC-SHA256. A name serves once.
        """
        made = (blake2b(name.encode(), digest_size=size, key=self.secret) for name in names)
        return b"".join(one.digest() for one in made)

    def patient(self, patient_id: str) -> str:
        """Return the pseudonym of a patient.

        Only the Patient ID counts: two patients to whom two issuers gave one ID become one, which
        errs on the side of keeping the images of a patient together.
        """
        return self.hash("patient", patient_id.strip())

    def study(self, uid: str) -> str:
        """Return the pseudonym of a study."""
        return self.hash("study", uid.strip())

    def series(self, uid: str) -> str:
        """Return the pseudonym of a series."""
        return self.hash("series", uid.strip())

    def site(self, name: str) -> str:
        """Return the pseudonym of an institution; of names that differ in case only, the same."""
        return self.hash("site", " ".join(name.casefold().split()))

    def scanner(self, description: str) -> str:
        """Return the pseudonym of a device."""
        return self.hash("scanner", description.casefold())

    def fingerprint(self) -> str:
        """Return what tells this key from others and reveals nothing about it."""
        return self.hash("fingerprint")


def key_file() -> Path:
    """Return where the key is: `MEDSSL_KEY_FILE`, or the user's configuration folder."""
    if named := os.environ.get(KEY_FILE_VARIABLE):
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "medssl" / "site.key"


def load_site_key(path: Path | None = None) -> SiteKey:
    """Read the key; make one, readable by the user alone, if there is none yet.

    Args:
        path: The file; `key_file()` by default.

    Raises:
        ConfigError: It cannot be read or made, others may read it, or it holds no key.
    """
    path = path or key_file()
    try:
        if not path.exists():
            _create(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text(encoding="ascii").strip()
        secret = bytes.fromhex(text)
    except OSError as error:
        way_out = f"name another file with {KEY_FILE_VARIABLE}"
        raise ConfigError(f"site key {path}: {error.strerror}; {way_out}") from error
    except ValueError as error:
        raise ConfigError(f"site key {path}: expected hexadecimal digits") from error
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"site key {path}: others may read or change it; chmod 600 {path}")
    if len(secret) < _KEY_BYTES:
        raise ConfigError(f"site key {path}: expected at least {2 * _KEY_BYTES} digits")
    return SiteKey(hashlib.sha256(secret).digest())


def _create(path: Path) -> None:
    """Write a new key so that of two processes that do so at once, both use the first one's."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink(missing_ok=True)
