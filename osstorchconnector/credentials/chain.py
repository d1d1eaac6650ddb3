"""Where credentials are looked for if the user names none, and the names by which a user picks one of these places."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping

from ..errors import OssCredentialsError
from ..redaction import keeper
from .profiles import ProfileCredentials
from .remote import EcsRoleCredentials, UriCredentials
from .roles import OidcCredentials, RoleCredentials
from .sources import AnonymousCredentials, CredentialsSource, EnvironmentCredentials, FileCredentials
from .sts import Role
from .values import Credentials

PAGE = "docs/credentials.md"
DEFAULT_CREDENTIALS_PATH = "~/.alibabacloud/credentials"
# aliyun CLI, Alibaba Cloud's SDKs, ossutil
PROFILE_PATHS = ("~/.aliyun/config.json", "~/.alibabacloud/credentials.ini", "~/.ossutilconfig")

_PREFIX = "ALIBABA_CLOUD_"


class Places:
    """The sources that this process's environment and files offer, each `None` where there is none."""

    def __init__(self, environ: Mapping[str, str] | None = None, default_path: str = DEFAULT_CREDENTIALS_PATH) -> None:
        self._environ = keeper(os.environ if environ is None else environ)
        self._keys = EnvironmentCredentials(environ)
        self._file = FileCredentials(default_path)
        self._profiles: dict[tuple[str, str], ProfileCredentials] = {}

    def keys(self) -> CredentialsSource | None:
        """Return the keys in environment variables; with `ALIBABA_CLOUD_ROLE_ARN`, the role assumed with them."""
        if not self._keys.is_set():
            return None
        arn = self._variable("ROLE_ARN")
        return (
            RoleCredentials(self._keys, self._role(arn))
            if arn and not self._variable("OIDC_TOKEN_FILE")
            else self._keys
        )

    def oidc(self) -> CredentialsSource | None:
        """Return the role of this pod (RRSA of ACK)."""
        names = ("ROLE_ARN", "OIDC_PROVIDER_ARN", "OIDC_TOKEN_FILE")
        arn, provider, token = map(self._variable, names)
        return OidcCredentials(self._role(arn), provider, token) if arn and provider and token else None

    def uri(self) -> CredentialsSource | None:
        """Return the credentials URI."""
        uri = self._variable("CREDENTIALS_URI")
        return UriCredentials(uri) if uri else None

    def file(self) -> CredentialsSource | None:
        """Return the JSON file at the default path."""
        return self._file if isinstance(self._file.mark(), tuple) else None

    def profile(self, name: str = "") -> CredentialsSource | None:
        """Return a profile: of the first file that is there."""
        name = name or self._variable("PROFILE")
        paths = (self._variable("CREDENTIALS_FILE"), *PROFILE_PATHS)
        profiles = (self._profiles.setdefault((path, name), ProfileCredentials(path, name)) for path in paths if path)
        return next((profile for profile in profiles if profile.exists()), None)

    def ecs(self, role_name: str = "") -> CredentialsSource | None:
        """Return the role of this ECS instance. Whether it has one shows when it is asked."""
        if self._variable("ECS_METADATA_DISABLED").lower() == "true":
            return None
        requires_token = self._variable("IMDSV1_DISABLED").lower() == "true"
        return EcsRoleCredentials(role_name or self._variable("ECS_METADATA"), requires_token=requires_token)

    def in_order(self) -> Iterator[CredentialsSource]:
        """Yield the sources that there are, in the order in which they are taken."""
        for find in (self.keys, self.oidc, self.uri, self.file, self.profile, self.ecs):
            source = find()
            if source is not None:
                yield source

    def _variable(self, name: str) -> str:
        return self._environ().get(f"{_PREFIX}{name}", "").strip()

    def _role(self, arn: str) -> Role:
        return Role(
            arn=arn,
            session_name=self._variable("ROLE_SESSION_NAME") or "osstorchconnector",
            sts_region=self._variable("STS_REGION"),
            vpc=self._variable("VPC_ENDPOINT_ENABLED").lower() == "true",
        )


class DefaultCredentials(CredentialsSource):
    """The first source that is there, looked for at every `fetch`:

    1. the environment variables `OSS_ACCESS_KEY_ID`, ... or `ALIBABA_CLOUD_ACCESS_KEY_ID`, ...; with
       `ALIBABA_CLOUD_ROLE_ARN`, that role, assumed with them
    2. the role of a pod in ACK (RRSA): `ALIBABA_CLOUD_ROLE_ARN`, `..._OIDC_PROVIDER_ARN`, `..._OIDC_TOKEN_FILE`
    3. the service at `ALIBABA_CLOUD_CREDENTIALS_URI`
    4. the JSON file `~/.alibabacloud/credentials`
    5. a profile (`ALIBABA_CLOUD_PROFILE`, else the file's default) in `ALIBABA_CLOUD_CREDENTIALS_FILE`, else
       `~/.aliyun/config.json`, `~/.alibabacloud/credentials.ini` or `~/.ossutilconfig`
    6. the RAM role of the ECS instance, unless `ALIBABA_CLOUD_ECS_METADATA_DISABLED` is true

    A source that is there and fails is an error: the next one may belong to somebody else.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, default_path: str = DEFAULT_CREDENTIALS_PATH) -> None:
        self._places = Places(environ, default_path)
        self._nowhere = f"the environment variables OSS_ACCESS_KEY_ID, ... or {FileCredentials(default_path)}"
        self._nothing = (
            "no credentials: give cred_path= or cred_provider=, set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or "
            f"write {default_path}"
        )
        self._last: CredentialsSource | None = None

    def fetch(self) -> Credentials:
        """Return the credentials of the first source. Raises `OssCredentialsError`."""
        source = next(self._places.in_order(), None)
        if source is None:
            raise OssCredentialsError(self._nothing)
        try:
            credentials = source.fetch()
        except OssCredentialsError as error:
            if isinstance(source, EcsRoleCredentials):  # which is asked where nothing says that there is one
                raise OssCredentialsError(f"{self._nothing}; asked last: {error}") from None
            raise
        self._last = source
        return credentials

    def mark(self) -> Hashable:
        source = next(self._places.in_order(), None)
        mark = source.mark() if source is not None else ""
        return None if mark is None else (str(source), mark)

    def __str__(self) -> str:
        # Does not look for files: this text is for the error that says a file hangs.
        return self._nowhere if self._last is None else str(self._last)

    def __reduce__(self) -> tuple[type[DefaultCredentials], tuple[()]]:
        return DefaultCredentials, ()


class NamedCredentials(CredentialsSource):
    """One place of the chain, picked by its name, such as "ecs" or "profile:research".

    `picked_by` is the parameter that has the name, for the error about a wrong one.
    """

    def __init__(self, name: str, picked_by: str = "cred_provider", environ: Mapping[str, str] | None = None) -> None:
        kind, _, detail = name.partition(":")
        if kind not in _FINDERS or (detail and kind not in ("file", "profile", "ecs")):
            raise OssCredentialsError(
                f"{picked_by} must be one of {', '.join(_FINDERS)}, file:PATH, profile:NAME and ecs:ROLE, not another "
                "text (the path of a credential file goes to cred_path=)"
            )
        self._name, self._detail, self._find = name, detail, _FINDERS[kind]
        self._places = Places(environ)

    def fetch(self) -> Credentials:
        """Return the credentials of this place. Raises `OssCredentialsError`, also if there is nothing."""
        source = self._find(self._places, self._detail)
        if source is None:
            raise OssCredentialsError(f"{self}: there are none: {_WANTED[self._name.partition(':')[0]]} ({PAGE})")
        return source.fetch()

    def mark(self) -> Hashable:
        source = self._find(self._places, self._detail)
        return "nothing" if source is None else source.mark()

    def __str__(self) -> str:
        return f"the source {self._name!r}"

    def __reduce__(self) -> tuple[type[NamedCredentials], tuple[str]]:
        return NamedCredentials, (self._name,)


# What each place that may be empty needs.
_WANTED = {
    "environment": "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET",
    "oidc": "ALIBABA_CLOUD_ROLE_ARN, ..._OIDC_PROVIDER_ARN and ..._OIDC_TOKEN_FILE must be set: switch RRSA on",
    "uri": "set ALIBABA_CLOUD_CREDENTIALS_URI",
    "file": f"write {DEFAULT_CREDENTIALS_PATH}",
    "profile": f"write one of {', '.join(PROFILE_PATHS)}",
    "ecs": "ALIBABA_CLOUD_ECS_METADATA_DISABLED is true",
}
_FINDERS: Mapping[str, Callable[[Places, str], CredentialsSource | None]] = {
    "environment": lambda places, _: places.keys(),
    "oidc": lambda places, _: places.oidc(),
    "uri": lambda places, _: places.uri(),
    "file": lambda places, path: FileCredentials(path) if path else places.file(),
    "profile": lambda places, name: places.profile(name),
    "ecs": lambda places, name: places.ecs(name),
    "anonymous": lambda places, _: AnonymousCredentials(),
}
