"""Is this the environment that was meant, and is everything set that the release needs?"""

import os

import pytest

from deploy_guard import gate
from deploy_guard.config import EnvironmentConfig
from deploy_guard.probes import environment


@gate("recoverable", blocking=True)
def test_the_environment_is_named_and_complete(deploy_config: EnvironmentConfig) -> None:
    """ENV agrees with --deploy-env, and the required variables and one secret of each group are set."""
    problems = environment.problems(deploy_config, os.environ)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
