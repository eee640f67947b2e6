"""Is this the environment that was meant, and is everything set that the release needs?"""

import os

import pytest

from deploy_guard import gate
from deploy_guard.config import EnvironmentConfig
from deploy_guard.probes import environment
from deploy_guard.session.fixtures import EvidenceLog


@gate("recoverable", blocking=True)
def test_the_environment_is_named_and_complete(deploy_config: EnvironmentConfig, evidence: EvidenceLog) -> None:
    """ENV agrees with --deploy-env, and the required variables and one secret of each group are set."""
    evidence.record("environment", deploy_config.env)
    evidence.record("variables that are set", ", ".join(environment.names_set(deploy_config, os.environ)) or "none")
    problems = environment.problems(deploy_config, os.environ)
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
