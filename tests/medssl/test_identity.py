"""The site key, and the pseudonyms made with it."""

import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from medssl.identity import KEY_FILE_VARIABLE, SiteKey, key_file, load_site_key
from sslcore.errors import ConfigError


def test_hash_is_hmac_sha256_of_the_parts_cut_to_16_digits() -> None:
    expected = hmac.new(b"secret", b"patient\x1f4711", hashlib.sha256).hexdigest()[:16]
    assert SiteKey(b"secret").hash("patient", "4711") == expected
    assert SiteKey(b"secret").patient(" 4711 ") == expected


def test_other_keys_kinds_and_splits_of_the_parts_give_other_hashes() -> None:
    key = SiteKey(b"a")
    hashes = [key.hash("ab", "c"), key.hash("a", "bc"), key.hash("abc"), key.study("c")]
    hashes += [key.patient("c"), key.series("c"), SiteKey(b"b").patient("c")]
    assert len(set(hashes)) == len(hashes)


def test_the_key_is_made_once_for_the_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "site.key"
    first = load_site_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_site_key(path) == first
    assert list(path.parent.iterdir()) == [path]
    assert load_site_key(tmp_path / "other.key") != first


def test_the_key_is_never_shown(tmp_path: Path) -> None:
    key = load_site_key(tmp_path / "site.key")
    assert repr(key) == "SiteKey()"
    assert (tmp_path / "site.key").read_text().strip() not in key.fingerprint()


def test_the_place_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert key_file() == tmp_path / "medssl" / "site.key"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert key_file() == tmp_path / ".config" / "medssl" / "site.key"
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "k"))
    assert key_file() == tmp_path / "k"


@pytest.mark.parametrize(
    ("content", "words"), [("xyz", "hexadecimal"), ("", "at least 64"), ("ab" * 31, "at least 64")]
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "k").write_text(content)
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(ConfigError, match=words):
        load_site_key(tmp_path / "k")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_key_that_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    load_site_key(tmp_path / "k")
    (tmp_path / "k").chmod(mode)
    with pytest.raises(ConfigError, match=r"others may read or change it; chmod 600"):
        load_site_key(tmp_path / "k")
    (tmp_path / "k").chmod(0o400)
    load_site_key(tmp_path / "k")


def test_a_place_that_cannot_be_used_names_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=KEY_FILE_VARIABLE):
        load_site_key(tmp_path / "file" / "k")
