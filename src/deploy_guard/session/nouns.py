"""What the fixtures are made of: the release, the driver, the probes; made once for a run, when first asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict

from deploy_guard.config import EnvironmentConfig
from deploy_guard.drivers.base import Context, Driver, Release
from deploy_guard.errors import ConfigurationError, DeployGuardError, TagFailed
from deploy_guard.session import spool
from deploy_guard.session.run import Run

NOTED = 200
"""Commits that the notes of a run name; a first release may have tens of thousands."""


def known_release(run: Run) -> Release:
    """Return what can be known of the release: version from option or variable, the rest from git and CI variables.

    The watching parent has nothing else to do while the gates run, so it finds this out for the session.
    """
    if run.taken_back is not None:
        return run.taken_back
    if run.facts >= 0 and (found := spool.read(run.facts)):
        return Release(**found[0])
    from deploy_guard.probes.repo import Repo

    return Repo.of(run.config).release(run.version, os.environ)


def known_notes(run: Run) -> tuple[str, str]:
    """Return the release notes as text and, where they can't be made, why not; both empty outside a repository."""
    if run.facts >= 0 and len(found := spool.read(run.facts)) > 1:
        return found[1]["notes"], found[1]["why_not"]
    from deploy_guard.probes.repo import Repo

    if Repo.of(run.config).problem:
        return "", ""
    from deploy_guard.report.notes import notes_for
    from deploy_guard.report.notes_text import as_text

    rules, name = run.config.releases, run.config.name
    try:
        notes = notes_for(run.config.directory, rules, name=name, version=run.version, n=NOTED)
    except DeployGuardError as error:
        return "", error.what
    return run.redactor.redact(as_text(notes)), ""


def find_facts(run: Run) -> None:
    """In the watching parent: find out for the session what it will ask for, while it runs the gates."""
    try:
        release = known_release(run)
    except DeployGuardError:
        return  # the session meets the same error where somebody can see it
    spool.write(run.facts, asdict(release))
    notes, why_not = known_notes(run)
    spool.write(run.facts, {"notes": notes, "why_not": why_not})


def tag_run(run: Run) -> str:
    """Tag what the run released, with the notes as the tag's message; returns one line for people.

    :raises TagFailed: with git's own words.
    """
    from deploy_guard.probes.tagging import tag_release

    release, rules = known_release(run), run.config.releases
    if release.version is None or release.commit is None:
        raise TagFailed("a release without a version or a commit can't be tagged")
    tag = rules.versions.tag_of(release.version)
    notes, _ = known_notes(run)
    return tag_release(run.config.directory, tag, release.commit, notes or tag, rules.remote).said


def configured_driver(run: Run) -> Driver:
    """Make the driver that the configuration names.

    :raises ConfigurationError: when it names none, or one that can't be made.
    """
    config = run.config
    if config.driver is None:
        where = config.path or "deploy-guard.toml"
        raise ConfigurationError(
            f"no driver is configured for {run.env}: there is nothing to roll the release out with",
            hint=f'write driver = "local" under [env.{run.env}] in {where}, or run with --no-deploy',
        )
    from deploy_guard.drivers import make_driver

    release = known_release(run)
    context = driver_context(config, release.version, release.commit, run.progress)
    return make_driver(config.driver, config.driver_config, context)


def driver_context(
    config: EnvironmentConfig,
    version: str | None,
    commit: str | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Context:
    """Return what a driver is told besides its own table; version and commit are set for its commands where known."""
    environ = {**os.environ, "DEPLOY_ENV": config.env}
    environ.update({k: v for k, v in (("VERSION", version), ("COMMIT", commit)) if v})
    return Context(config.name, config.env, config.directory, environ, config.variables, progress)
