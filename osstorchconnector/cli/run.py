"""The app that commands add themselves to, what they share, and how a command ends."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from ..errors import OssError, OssUsageError
from ..redaction import Secret
from ..version import __version__
from .session import CommandSession, Settings
from .show import note
from .transfer import Failure

_MOST_FAILURES_SHOWN = 20

app = typer.Typer(
    name="osstorch",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Alibaba Cloud OSS for those who train models: look, copy, check. The options below go with every command.",
)

_state: dict[str, object] = {}


def session() -> CommandSession:
    """Return how OSS is reached in this command."""
    found = _state["session"]
    assert isinstance(found, CommandSession)
    return found


def at_once() -> int:
    """Return how many files or objects are worked on at a time."""
    jobs = _state["jobs"]
    assert isinstance(jobs, int)
    return jobs


def _print_version(is_asked: bool) -> None:
    if is_asked:
        sys.stdout.write(f"osstorchconnector {__version__}\n")
        raise typer.Exit


@app.callback()
def _all(
    endpoint: Annotated[
        str, typer.Option("--endpoint", "-e", help="Such as https://oss-cn-beijing.aliyuncs.com.")
    ] = "",
    region: Annotated[str, typer.Option("--region", help="Such as cn-beijing. Alone, it tells the endpoint.")] = "",
    profile: Annotated[str, typer.Option("--profile", help="A profile of aliyun CLI, the SDKs or ossutil.")] = "",
    config_file: Annotated[str, typer.Option("--config-file", "-c", help="The file of the profile.")] = "",
    access_key_id: Annotated[str, typer.Option("--access-key-id", "-i")] = "",
    access_key_secret: Annotated[str, typer.Option("--access-key-secret", "-k")] = "",
    sts_token: Annotated[str, typer.Option("--sts-token", "-t")] = "",
    cred_path: Annotated[str, typer.Option("--cred-path", help="A JSON file of credentials.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Sign nothing: public buckets.")] = False,
    connector_config: Annotated[str, typer.Option("--connector-config", help="A config file of this library.")] = "",
    jobs: Annotated[int, typer.Option("--jobs", "-j", help="Files or objects at a time.", min=1, max=256)] = 16,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    settings = Settings(
        endpoint=endpoint,
        region=region,
        profile=profile,
        config_file=config_file,
        access_key_id=access_key_id,
        access_key_secret=Secret(access_key_secret),
        sts_token=Secret(sts_token),
        cred_path=cred_path,
        anonymous=anonymous,
        connector_config=connector_config,
    )
    _state.update(session=CommandSession(settings), jobs=jobs)


# The options above, which users of ossutil write behind the command: with a value, and without.
_WITH_VALUE = frozenset(
    "--endpoint -e --region --profile --config-file -c --access-key-id -i --access-key-secret -k --sts-token -t "
    "--cred-path --connector-config --jobs -j".split()
)
_WITHOUT_VALUE = frozenset({"--anonymous", "--version"})


def common_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the options of all commands before the command. After `--` nothing is an option."""
    common, rest = list[str](), list[str]()
    left = iter(arguments)
    for argument in left:
        name, equals, _ = argument.partition("=")
        if argument == "--":
            rest += [argument, *left]
        elif argument in _WITHOUT_VALUE or (name in _WITH_VALUE and equals):
            common.append(argument)
        elif argument in _WITH_VALUE:
            common += [argument, *(value for value in [next(left, None)] if value is not None)]
        else:
            rest.append(argument)
    return common + rest


def confirm(question: str, yes: bool) -> None:
    """Ask the user. Where nobody can answer, that is an error: `--yes` says it beforehand."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise OssUsageError(f"{question} Nobody can be asked here: --yes goes on without asking")
    typer.confirm(question, abort=True, err=True)


def finish(summary: str, failures: Sequence[Failure]) -> None:
    """Say what was done. With failures, list them and end the command with status 1."""
    note(summary)
    if not failures:
        return
    for failure in failures[:_MOST_FAILURES_SHOWN]:
        note(f"failed: {failure.name}: {failure.error}")
    more = len(failures) - _MOST_FAILURES_SHOWN
    note(f"{len(failures):,} failed{f' ({more:,} more than shown)' if more > 0 else ''}")
    raise typer.Exit(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status: 0, 1 for an error, 2 for wrong arguments, 130 after Ctrl-C."""
    try:
        app(common_first(sys.argv[1:] if arguments is None else arguments), prog_name="osstorch")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except (OssError, OSError) as error:
        note(f"osstorch: {error}")
        return 1
    return 0
