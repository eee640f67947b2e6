"""Who ran it, in which CI job, and how to run it again: from the variables that CI systems set."""

from __future__ import annotations

import getpass
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy_guard.flow.model import Mode

if TYPE_CHECKING:
    from deploy_guard.flow.record import Record
    from deploy_guard.session.run import Run


@dataclass(frozen=True)
class Origin:
    """Where a run came from.

    :param who: a person or account, as far as it is known.
    :param job: the CI job in words, ``Jenkins shop #812``; empty outside of CI.
    :param url: its page; empty, or http(s).
    :param commands: pairs of what for and the command, to run the same again.
    :param needs: variables that the command needs besides; of ``A or B`` one.
    :param files: names of the run's other files beside the page.
    """

    who: str = ""
    job: str = ""
    url: str = ""
    commands: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


def origin_of(run: Run, record: Record, environ: Mapping[str, str]) -> Origin:
    """Return what can be known of this run."""
    _, job, url = ci_job(environ)
    needs = [name for name in run.config.required_variables if name != "VERSION"]
    needs += [" or ".join(group) for group in run.config.secret_groups]
    files = (name for name in ("verdict.json", "junit.xml", "audit.jsonl") if (run.folder / name).is_file())
    return Origin(who(environ), job, url, tuple(commands(run.arguments, record)), tuple(needs), tuple(files))


def who(environ: Mapping[str, str]) -> str:
    """Return who runs this, as far as it is known: who started the CI job, else the account on this machine."""
    return ci_job(environ)[0] or _account()


def ci_job(environ: Mapping[str, str]) -> tuple[str, str, str]:
    """Return who started the CI job, its name and its address; each may be empty."""
    get = environ.get
    if url := get("BUILD_URL"):  # Jenkins; who is told by its "build user vars" plugin, or by a change request
        name = f"{get('JOB_NAME', '')} #{get('BUILD_NUMBER', '')}".strip(" #")
        job = f"Jenkins {name or get('BUILD_TAG', '')}".strip()
        who = get("BUILD_USER_ID") or get("BUILD_USER") or get("CHANGE_AUTHOR") or ""
    elif get("GITHUB_ACTIONS"):
        run = f"{get('GITHUB_REPOSITORY', '')}/actions/runs/{get('GITHUB_RUN_ID', '')}"
        url = f"{get('GITHUB_SERVER_URL', 'https://github.com')}/{run}"
        job = f"GitHub Actions {get('GITHUB_WORKFLOW', '')} #{get('GITHUB_RUN_NUMBER', '')}".strip(" #")
        who = get("GITHUB_TRIGGERING_ACTOR") or get("GITHUB_ACTOR") or ""
    elif get("GITLAB_CI"):
        url = get("CI_JOB_URL", "")
        job = f"GitLab {get('CI_JOB_NAME', '')} #{get('CI_JOB_ID', '')}".strip(" #")
        who = get("GITLAB_USER_LOGIN", "")
    else:
        return "", "", ""
    return who, job, url if url.startswith(("https://", "http://")) else ""


def commands(arguments: tuple[str, ...], record: Record) -> list[tuple[str, str]]:
    """Return what to type to run the same again, and to run its gates without a rollout."""
    named = any(argument.startswith("--deploy-version") for argument in arguments)
    version = [f"VERSION={shlex.quote(record.version)}"] if record.version and not named else []
    checkout = f"git checkout {record.commit[:12]}\n" if record.commit else ""
    line = " ".join([*version, shlex.join(["pytest", *arguments])])
    found = [("The same run", checkout + line)]
    if record.mode is Mode.DEPLOY:
        found.append(("Its gates only, nothing is rolled out", f"{checkout}{line} --no-deploy"))
    return found


def _account() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user in a container; Windows without its variables
        user = "unknown user"
    return f"{user}@{socket.gethostname()}"
