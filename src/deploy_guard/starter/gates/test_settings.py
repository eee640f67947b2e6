"""Examples of gates of your own, on the configuration itself. Change them, or delete them."""

from deploy_guard import gate


@gate("critical")
def test_replicas_are_allowed(deploy_settings, evidence):
    """A value must be there, and within limits: at 1 a restart is an outage, above 10 it gets expensive."""
    replicas = deploy_settings["replicas"]
    evidence.record("replicas", replicas)
    assert 2 <= replicas <= 10


@gate("recoverable", env="prod")
def test_prod_has_more_replicas_than_the_default(deploy_settings):
    """A value must differ between environments: nobody ships the default to prod by accident."""
    assert deploy_settings["replicas"] >= 3


@gate("warn", env=("stage", "prod"))
def test_the_release_has_a_version(release):
    """A warning is shown and stops nothing."""
    assert release.version, "set VERSION, or --deploy-version"
