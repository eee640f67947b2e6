"""The kubectl commands that a person would type for what the driver does; shown in the report, never run."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Sequence
from pathlib import Path

from deploy_guard.drivers.base import Context
from deploy_guard.drivers.kubernetes.config import KubernetesConfig
from deploy_guard.drivers.kubernetes.target import Target

_MANAGER = "--field-manager=deploy-guard"
_KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_MANIFESTS = (".yaml", ".yml", ".json")


def for_plan(config: KubernetesConfig, target: Target, context: Context | None = None) -> list[str]:
    """Return the commands that show what would change.

    :param context: tells where the manifests are, and which variables are replaced in them.
    """
    return _with_manifests(config, target, ("diff", "--server-side", *_options(config)), context)


def for_apply(config: KubernetesConfig, target: Target, context: Context | None = None) -> list[str]:
    """Return the commands that apply the same."""
    return _with_manifests(config, target, ("apply", "--server-side", *_options(config)), context)


def for_rollback(config: KubernetesConfig, target: Target, workloads: Sequence[str] = ()) -> list[str]:
    """Return the commands that come closest to a rollback.

    :param workloads: those that it changed, as in ``deployment/web``.
    """
    named = list(workloads) or ["deployment/NAME"]
    if config.rollback == "undo":
        back = [target.shown("rollout", "undo", one) for one in named]
    else:  # kubectl does not know what was there before; the manifests of the last release come closest
        back = [target.shown("apply", "--server-side", "--force-conflicts", _MANAGER, "-f", "MANIFESTS-BEFORE")]
    return [*back, *(target.shown("rollout", "status", one) for one in named)]


def _options(config: KubernetesConfig) -> tuple[str, ...]:
    return (_MANAGER, "--force-conflicts") if config.adopt else (_MANAGER,)


def _with_manifests(
    config: KubernetesConfig, target: Target, words: tuple[str, ...], context: Context | None
) -> list[str]:
    """Return one command for all plain files, one for each that a person must build or fill in first."""
    here = Path() if context is None else context.directory
    names = () if context is None else context.variables
    plain: list[str] = []
    piped: list[str] = []
    others: list[str] = []
    for given in config.manifests or ():
        if any((here / given / name).is_file() for name in _KUSTOMIZATIONS):
            others.append(target.shown(*words, "-k", given))
        elif used := _used(here, given, names):
            piped.append(f"{_filled(here, given, used)} | {target.shown(*words, '-f', '-')}")
        else:
            plain += ["-f", given]  # kubectl knows globs itself
    if config.render:
        piped.append(f"{shlex.join(config.render)} | {target.shown(*words, '-f', '-')}")
    return [*([target.shown(*words, *plain)] if plain else []), *others, *piped]


def _used(here: Path, given: str, names: Sequence[str]) -> list[str]:
    """Return which of the variables stand in these manifests."""
    found: set[str] = set()
    for path in _files(here, given):
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):  # told where manifests are read
            continue
        found.update(name for name in names if f"${{{name}}}" in text)
    return sorted(found)


def _files(here: Path, given: str) -> list[Path]:
    path = here / given
    if path.is_dir():
        return [one for one in path.iterdir() if one.suffix in _MANIFESTS]
    # Not pathlib's, which takes no absolute patterns; the folder's own name may hold brackets.
    return [here / one for one in glob.glob(given, root_dir=here, recursive=True)]  # noqa: PTH207


def _filled(here: Path, given: str, names: Sequence[str]) -> str:
    """Return the command that puts the values of variables into manifests, as far as a person has one for it."""
    which = shlex.quote(" ".join(f"${{{name}}}" for name in names))
    if (here / given).is_file():
        return f"envsubst {which} < {shlex.quote(given)}"
    pattern = f"{given.rstrip('/')}/*" if (here / given).is_dir() else given
    return f'for file in {pattern}; do echo ---; envsubst {which} < "$file"; done'
