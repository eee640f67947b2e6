"""Is what is released from here committed, meant, newer than what was, and free to be tagged?"""

import os

import pytest

from deploy_guard import Release, gate
from deploy_guard.probes.guard import Findings, ReleaseGuard
from deploy_guard.probes.repo import Repo
from deploy_guard.session.fixtures import EvidenceLog
from deploy_guard.session.run import Run

pytestmark = gate("recoverable")


@pytest.fixture
def guard(deploy_run: Run, repo: Repo, release: Release) -> ReleaseGuard:
    """The release guard; ``release-guard = false`` turns it off for an environment."""
    return ReleaseGuard(deploy_run.config, repo, release, os.environ, deploy_run.folder)


def judge(found: Findings, evidence: EvidenceLog) -> None:
    """Put what was seen into the reports, and fail with everything that stands in the way."""
    for name, value in found.facts.items():
        evidence.record(name, value)
    if found.problems:
        pytest.fail(found.text, pytrace=False)


def test_the_working_tree_is_clean(guard: ReleaseGuard, evidence: EvidenceLog) -> None:
    """Nothing is modified, staged or untracked, submodules included, and no merge or rebase is in progress."""
    judge(guard.tree(), evidence)


def test_the_commit_is_the_one_to_release(guard: ReleaseGuard, evidence: EvidenceLog) -> None:
    """HEAD is the commit that the CI service, or COMMIT, says."""
    judge(guard.commit(), evidence)


def test_the_version_is_well_formed_and_newer(guard: ReleaseGuard, evidence: EvidenceLog) -> None:
    """The version is vX.Y.Z, or as configured, and greater than that of every release tag, here and on the remote."""
    judge(guard.version(), evidence)


def test_the_tag_is_free_or_ours(guard: ReleaseGuard, evidence: EvidenceLog) -> None:
    """No tag of this version stands at another commit, here or on the remote; at this one it is a re-run."""
    judge(guard.tag(), evidence)
