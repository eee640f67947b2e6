"""Break glass: gates that a person waives for one run, with a reason that stands in every record of it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping

import pytest

from deploy_guard.flow.model import Phase, Waiver
from deploy_guard.session.gates import SPEC


def waivers_of(options: argparse.Namespace) -> dict[str, Waiver]:
    """Return the waivers of the command line, by node id.

    :raises pytest.UsageError: for a missing or empty reason, or reasons that can't be matched with gates.
    """
    ids: list[str] = options.deploy_waive or []
    reasons = [reason.strip() for reason in options.deploy_reason or []]
    if not ids and not reasons:
        return {}
    if not ids:
        raise pytest.UsageError("--deploy-reason says why a gate is waived: name the gate with --deploy-waive ID")
    if not reasons or not all(reasons):
        raise pytest.UsageError("--deploy-waive needs a reason that others will understand: add --deploy-reason TEXT")
    if len(reasons) not in (1, len(ids)):
        raise pytest.UsageError(
            f"{len(ids)} gates are waived for {len(reasons)} reasons: give one for all, or one for each, in order"
        )
    if len(reasons) == 1:
        reasons *= len(ids)
    from deploy_guard.report.origin import who

    by = who(os.environ)
    return {node_id: Waiver(by, reason) for node_id, reason in zip(ids, reasons, strict=True)}


def refuse(waivers: Mapping[str, Waiver], items: Iterable[pytest.Item]) -> None:
    """Refuse what can't be waived, now that the gates are known.

    :raises pytest.UsageError: for an id that no gate has, a blocking gate, or a post-check.
    """
    specs = {item.nodeid: item.stash[SPEC] for item in items if SPEC in item.stash}
    for node_id in waivers:
        spec = specs.get(node_id)
        if spec is None:
            import difflib

            close = difflib.get_close_matches(node_id, specs, n=1, cutoff=0.4)
            fix = f"did you mean {close[0]}?" if close else "ids stand in verdict.json and in the report"
            raise pytest.UsageError(f"--deploy-waive {node_id}: there is no such gate; {fix}")
        if spec.phase is Phase.POST_CHECK:
            raise pytest.UsageError(
                f"--deploy-waive {node_id}: a post-check can't be waived; nothing stays shipped that fails one"
            )
        if spec.blocking:
            raise pytest.UsageError(
                f"--deploy-waive {node_id}: a blocking gate can't be waived: without it the others mean nothing"
            )
