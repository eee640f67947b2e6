"""What the Kubernetes driver does and costs beside kubectl, Helm 4 and kapp, on one cluster, in one run.

``python benchmarks/kubernetes.py [--short] [--pairs N] [--only SECTION]`` prints a Markdown table. The cluster is the
one that ``DEPLOY_GUARD_TEST_KUBECONTEXT`` names; Helm and kapp are built from their Go modules the first time, and left
out where there is no Go. Times are medians; what is compared is run in turn, so that a busy machine slows all of it. It
ends with an error when a healthy rollout was called doomed or something was not restored, never because of a time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kube import alarms, doomed, objects, speed
from kube.cluster import CONTEXT, Row, kubectl, load
from kube.peers import Peers
from kube.registry import Registry

SECTIONS = ("speed", "linear", "doomed", "back", "alarms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a minute's worth, without Helm and kapp")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="may be repeated")
    parser.add_argument("--image", default=objects.IMAGE, help="an image with /bin/busybox that the cluster has")
    options = parser.parse_args()
    if not CONTEXT:
        sys.exit(
            "DEPLOY_GUARD_TEST_KUBECONTEXT names no kube context: start a cluster (kind, k3d), and name its context"
        )
    objects.IMAGE = options.image
    short, pairs = options.short, 1 if options.short else options.pairs
    few = min(pairs, 3)  # of what takes long
    wrong: list[str] = []
    peers = Peers(short=short)
    print(_about(peers), flush=True)
    print("\n| what | deploy-guard | beside it | to reach |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as name, Registry() as registry:
        top = Path(name)

        def checked(found: tuple[list[Row], list[str]]) -> list[Row]:
            wrong.extend(found[1])
            return found[0]

        sections: dict[str, Callable[[], list[Row]]] = {
            "speed": lambda: [
                *speed.many(top, peers, 100, pairs, slow=0 if short else few),
                *([] if short else speed.many(top, peers, 500, pairs, slow=few)),
            ],
            "linear": lambda: speed.linear(top, *((50, 250) if short else (500, 5000))),
            "doomed": lambda: doomed.side_by_side(top, peers, registry, few, short=short),
            "back": lambda: checked(doomed.back(top, peers, registry, pairs)),
            "alarms": lambda: checked(alarms.false_alarms(top, registry, 6 if short else 20)),
        }
        for section in options.only or SECTIONS:
            before, began = load(), time.monotonic()
            for row in sections[section]():
                print(f"| {' | '.join(row)} |", flush=True)
            said = f"{section}: {time.monotonic() - began:.0f} s, load {before} before and {load()} after"
            print(said, file=sys.stderr, flush=True)
    for line in wrong:
        print(f"wrong: {line}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


def _about(peers: Peers) -> str:
    """Return what it is measured with."""
    version = kubectl("version", "-o", "yaml")
    found = [line.split()[-1] for line in version.splitlines() if "gitVersion" in line]
    tools = [f"kubectl {found[0]}, Kubernetes {found[-1]}"]
    tools += [f"{name} {peers.version(name)}" for name in peers.programs]
    tools += [f"no {name} ({why})" for name, why in peers.missing.items()]
    return f"{', '.join(tools)}; Python {sys.version.split()[0]}, {os.cpu_count()} cores, load {load()}"


if __name__ == "__main__":
    main()
