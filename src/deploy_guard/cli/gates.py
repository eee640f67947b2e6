"""``env``, ``release`` and ``preflight``: the packaged standard gates, without a rollout."""

from __future__ import annotations

import json
import os
from argparse import Namespace

from deploy_guard.cli.session import environment, run


def env(arguments: Namespace) -> int:
    """Judge the environment."""
    return run(arguments, environment(arguments), ["--no-deploy"], standard=["environment"])


def release(arguments: Namespace) -> int:
    """Judge the release and, where that was asked for, tag it."""
    options = ["--no-deploy"]
    if arguments.version:
        options.append(f"--deploy-version={arguments.version}")
    if arguments.tag:
        options.append("--deploy-tag")
    return run(arguments, environment(arguments), options, standard=["release"])


def preflight(arguments: Namespace) -> int:
    """Judge environment, host and service."""
    chosen = environment(arguments)
    options = ["--no-deploy"]
    if arguments.url:
        os.environ["SERVICE_URL"] = arguments.url
        options.append("--deploy-override=" + json.dumps({"env": {chosen: {"service-url": arguments.url}}}))
    return run(arguments, chosen, options, standard=["environment", "host", "service"])
