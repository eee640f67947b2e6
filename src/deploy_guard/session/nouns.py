"""What the fixtures are made of: the release, the driver, the probes; made once for a run, when first asked for."""

from __future__ import annotations

import os

from deploy_guard.drivers.base import Context, Driver, Release
from deploy_guard.errors import ConfigurationError
from deploy_guard.session import spool
from deploy_guard.session.run import Run


def known_release(run: Run) -> Release:
    """Return what can be known of the release: version from option or variable, the rest from git and CI variables.

    The watching parent has nothing else to do while the gates run, so it finds this out for the session.
    """
    if run.facts >= 0 and (found := spool.read(run.facts)):
        return Release(**found[0])
    from deploy_guard.probes.repo import Repo

    return Repo.of(run.config).release(run.version, os.environ)


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
    environ = {**os.environ, "DEPLOY_ENV": run.env}
    environ.update({k: v for k, v in (("VERSION", release.version), ("COMMIT", release.commit)) if v})
    return make_driver(config.driver, config.driver_config, Context(config.name, run.env, config.directory, environ))
