"""The profile files of other tools: aliyun CLI's JSON, the INI files of Alibaba Cloud's SDKs and of ossutil.

A profile says how to get credentials: they stand in it, or a role, a command or a service gives them. The three formats
name the same things differently, so names are compared in lower case and without `_`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OssCredentialsError
from ..redaction import MAX_NAME_LETTERS, Secret, SecretBytes, printable
from .remote import CommandCredentials, EcsRoleCredentials, UriCredentials
from .roles import OidcCredentials, RoleCredentials
from .sources import MAX_FILE_BYTES, AnonymousCredentials, CredentialsSource
from .sts import Role
from .values import Credentials, checked_credentials, read_object

Profile = Mapping[str, Secret]

# A profile that is assumed with another one, which is assumed with another one, ...: no longer than this.
_MAX_LINKS = 8
_KEY_NAMES: Mapping[str, str] = {
    "access_key_id": "access_key_id",
    "access_key_secret": "access_key_secret",
    "security_token": "sts_token",
    "expires_at": "",
}


class ProfileCredentials(CredentialsSource):
    """The profile `name` of a file of aliyun CLI, Alibaba Cloud's SDKs or ossutil; "" for the file's default profile.

    The file is read again when it changes. Errors name the file and the profile. The pickle is their names.
    """

    def __init__(self, path: str | os.PathLike[str], name: str = "") -> None:
        self._path, self._name = Path(path).expanduser().absolute(), name
        self._found: tuple[Hashable, CredentialsSource] | None = None

    def fetch(self) -> Credentials:
        """Return the profile's credentials. Raises `OssCredentialsError` naming file and profile."""
        try:
            return self._source().fetch()
        except OssCredentialsError as error:
            raise OssCredentialsError(f"{self}: {error}") from None

    def mark(self) -> Hashable:
        """Return a value that changes with the file; `None` if the profile names a source that only `fetch` knows."""
        try:
            inner = self._source().mark()
        except OssCredentialsError:
            return self._file_mark()
        return None if inner is None else self._file_mark()

    def exists(self) -> bool:
        """Whether the file is there."""
        return isinstance(self._file_mark(), tuple)

    def __str__(self) -> str:
        return f"the profile {self._name or '(default)'} in {self._path}"

    def __reduce__(self) -> tuple[type[ProfileCredentials], tuple[str, str]]:
        return ProfileCredentials, (str(self._path), self._name)

    def _file_mark(self) -> Hashable:
        try:
            status = self._path.stat()
        except OSError as error:
            return error.errno
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _source(self) -> CredentialsSource:
        mark = self._file_mark()
        if self._found is None or self._found[0] != mark:
            self._found = mark, read_profiles(self._text()).source(self._name)
        return self._found[1]

    def _text(self) -> SecretBytes:
        try:
            with self._path.open("rb") as file:
                text = SecretBytes(file.read(MAX_FILE_BYTES + 1))
        except OSError as error:
            raise OssCredentialsError(error.strerror or type(error).__name__) from None
        if len(text) > MAX_FILE_BYTES:
            raise OssCredentialsError(f"longer than {MAX_FILE_BYTES} bytes")
        return text


class Profiles:
    """The profiles of one file, and the name of the one that is used if none is named."""

    def __init__(self, by_name: Mapping[str, Profile], default: str) -> None:
        self._by_name, self._default = by_name, default

    def setting(self, setting: str, name: str = "") -> str:
        """Return another setting of a profile, such as ossutil's `endpoint`; "" if it has none."""
        return str(_text(self._by_name.get(name or self._default, {}), setting))

    def source(self, name: str = "", links: int = 0) -> CredentialsSource:
        """Return what a profile stands for. Raises `OssCredentialsError`, whose text does not name the file."""
        name = name or self._default
        profile = self._by_name.get(name)
        if profile is None:
            known = ", ".join(printable(each, MAX_NAME_LETTERS) for each in self._by_name) or "none"
            raise OssCredentialsError(f"there is no profile {printable(name, MAX_NAME_LETTERS)} (there are: {known})")
        mode = _mode(profile)
        make = _MODES.get(mode)
        if make is not None:
            return make(profile)
        if mode != "chainableramrolearn":
            raise OssCredentialsError(
                f"profile {printable(name, MAX_NAME_LETTERS)}: the mode {printable(mode, MAX_NAME_LETTERS)} is not "
                f"supported (these are: {', '.join(sorted([*_MODES, 'chainableramrolearn']))})"
            )
        if links == _MAX_LINKS:
            raise OssCredentialsError(f"profile {printable(name, MAX_NAME_LETTERS)}: too long a chain of profiles")
        return RoleCredentials(self.source(_text(profile, "source_profile"), links + 1), _role(profile))


class KeyCredentials(CredentialsSource):
    """Credentials that stand in a profile."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def fetch(self) -> Credentials:
        return self._credentials

    def mark(self) -> Hashable:
        return "unchanged"

    def identity(self) -> Sequence[str]:
        return str(self), self._credentials.access_key_id

    def __str__(self) -> str:
        return "the key in the profile"


def read_profiles(text: SecretBytes) -> Profiles:
    """Return the profiles in the text of a file. Raises `OssCredentialsError`, whose text does not name the file."""
    is_json = text.lstrip(b"\xef\xbb\xbf \r\n\t")[:1] == b"{"
    return _read_json(text) if is_json else _read_ini(text)


def _read_json(text: SecretBytes) -> Profiles:
    document = read_object(text, '{"current": "default", "profiles": [...]}')
    if isinstance(document, str):
        raise OssCredentialsError(str(document))
    entries = document().get("profiles")
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise OssCredentialsError("profiles must be a list of JSON objects")
    return Profiles(
        {str(each.get("name", "")): _normalised(each) for each in entries}, str(document().get("current") or "default")
    )


def _read_ini(text: SecretBytes) -> Profiles:
    import configparser

    parser = configparser.ConfigParser(interpolation=None, strict=False, inline_comment_prefixes=("#",))
    try:
        parser.read_string(Secret(text.decode("utf-8-sig")))
    except UnicodeDecodeError:
        raise OssCredentialsError("not UTF-8") from None
    except configparser.Error as error:
        raise OssCredentialsError(f"no INI file ({type(error).__name__})") from None
    profiles = {_section_name(name): _normalised(dict(parser[name])) for name in parser.sections()}
    # ossutil 1 has no profiles, but a section of this name.
    return Profiles(profiles, "default" if "default" in profiles else "Credentials")


def _section_name(section: str) -> str:
    return section.removeprefix("profile ").strip()  # as ossutil 2 writes it


def _normalised(profile: Mapping[str, Any]) -> Profile:
    return {
        _plain(name): Secret(value if isinstance(value, str) else json.dumps(value)) for name, value in profile.items()
    }


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _text(profile: Profile, *names: str) -> str:
    """Return the first of these values that is not empty, else ""."""
    values = (profile.get(_plain(name), Secret()).strip() for name in names)
    return next((value for value in values if value and value != "null"), "")


def _mode(profile: Profile) -> str:
    """Return how the profile gets its credentials; ossutil leaves it out for keys."""
    mode = _plain(_text(profile, "mode", "type"))
    if mode:
        return {"accesskey": "ak", "sts": "ststoken", "oidcrolearn": "oidc", "ecs": "ecsramrole"}.get(mode, mode)
    return "ecsramrole" if _text(profile, "ecs_ak") else "ak"


def _keys(profile: Profile) -> KeyCredentials:
    outcome = checked_credentials(lambda field: _text(profile, _KEY_NAMES[field], field), _KEY_NAMES)
    if isinstance(outcome, Credentials):
        return KeyCredentials(outcome)
    raise OssCredentialsError(f"{outcome}")


def _role(profile: Profile) -> Role:
    seconds = _text(profile, "expired_seconds", "duration_seconds")
    return Role(
        arn=str(_text(profile, "ram_role_arn", "role_arn")),
        session_name=str(_text(profile, "ram_session_name", "role_session_name")) or "osstorchconnector",
        session_seconds=int(seconds) if seconds.isdecimal() and int(seconds) else 3600,
        policy=_text(profile, "policy"),
        external_id=_text(profile, "external_id"),
        sts_region=str(_text(profile, "sts_region")),
        vpc=_text(profile, "enable_vpc") == "true",
    )


def _oidc(profile: Profile) -> OidcCredentials:
    return OidcCredentials(
        _role(profile),
        str(_text(profile, "oidc_provider_arn")),
        str(_text(profile, "oidc_token_file", "oidc_token_file_path")),
    )


_MODES: Mapping[str, Callable[[Profile], CredentialsSource]] = {
    "ak": _keys,
    "ststoken": _keys,
    "ramrolearn": lambda profile: RoleCredentials(_keys(profile), _role(profile)),
    "ecsramrole": lambda profile: EcsRoleCredentials(
        str(_text(profile, "ram_role_name", "role_name", "ecs_role_name"))
    ),
    "oidc": _oidc,
    "external": lambda profile: CommandCredentials(str(_text(profile, "process_command"))),
    "credentialsuri": lambda profile: UriCredentials(str(_text(profile, "credentials_uri"))),
    "anonymous": lambda profile: AnonymousCredentials(),
}
