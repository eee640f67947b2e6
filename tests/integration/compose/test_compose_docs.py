"""The page on the Compose driver: its files and commands, word by word, on a real engine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import compose
import pytest
from cli import Command
from compose import Shop, docker

engine, shop = compose.engine, compose.shop

PAGE = Path(__file__).resolve().parents[3] / "docs/compose.md"
FILE = re.compile(r"^```\w+\n# (\S+/?\S*\.?\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BASE = "busybox:1.36"


@pytest.fixture
def base(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The image that the page's own is built from; made of this machine's busybox where it can't be pulled."""
    if docker("image", "ls", "--quiet", BASE).strip():
        yield
        return
    if compose._busybox() is None:
        docker("pull", BASE, timeout=300)
        yield
        return
    folder = tmp_path_factory.mktemp("base")
    compose.build_folder(folder, "base")
    text = (folder / "Dockerfile").read_text()
    (folder / "Dockerfile").write_text(text.partition("RUN mkdir")[0])
    docker("build", "--quiet", "--tag", BASE, str(folder), environ={"DOCKER_BUILDKIT": "0"})
    yield
    docker("rmi", BASE, check=False)


def commands(text: str) -> list[tuple[str, int, list[str]]]:
    """The commands of the page with their exit codes, and words that each must say."""
    found: list[tuple[str, int, list[str]]] = []
    for block in CONSOLE.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                command, _, code = line[2:].partition("   # exit code ")
                found.append((command, int(code or 0), []))
            else:
                found[-1][2].append(line.strip())
    return found


def test_the_page_takes_a_new_user_from_a_compose_file_to_a_gated_deploy(base: None, shop: Shop) -> None:
    text = PAGE.read_text()
    mine = re.sub(r"\bshop(?=[:-]|\"| ps)", shop.project, text.replace("8765", str(shop.port)))
    mine = mine.replace(f'name = "{shop.project}"', 'name = "shop"').replace(
        "--project-name shop", f"--project-name {shop.project}"
    )
    files = FILE.findall(mine)
    assert [name for name, _ in files] == [
        "compose.yaml",
        "app/Dockerfile",
        "app/start",
        "deploy-guard.toml",
        "gates/test_shop.py",
    ]
    for name, content in files:
        path = shop.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    lines = commands(mine)
    assert len(lines) == 10
    script = "".join(f'echo "@@ {number}"\n{line}\necho "@@ $?"\n' for number, (line, _, _) in enumerate(lines))
    path_ = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environ = Command(shop.folder).environ(PATH=path_, DOCKER_BUILDKIT="0")
    done = subprocess.run(
        ["bash", "-u"], input=script, cwd=shop.folder, env=environ, capture_output=True, text=True, timeout=240
    )
    parts = re.split(r"^@@ \d+$\n?", done.stdout, flags=re.MULTILINE)[1:]
    codes = [int(code) for code in re.findall(r"^@@ (\d+)$", done.stdout, re.MULTILINE)[1::2]]
    for (line, code, words), said, ended in zip(lines, parts[::2], codes, strict=True):
        assert ended == code, f"{line}\n{said}\n{done.stderr}"
        for word in words:
            assert word in said, f"{line} does not say {word!r}:\n{said}"
    assert shop.served == '{"version": "v1.0.0"}'
    assert shop.docker(
        "run", "--rm", "--volume", f"{shop.project}_data:/data", compose.image(), "cat /data/log"
    ).splitlines() == [
        "migrated to v1.0.0",
        "migrated to v2.0.0",
        "migrated to v2.0.1",
    ]


def test_the_page_names_every_key_with_its_default() -> None:
    from deploy_guard.drivers.compose import ComposeConfig
    from deploy_guard.tables import keys

    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", PAGE.read_text().partition("## The table")[2], re.MULTILINE)
    named = [name.strip("`") for row, _ in rows for name in row.split(", ")]
    assert named == list(keys(ComposeConfig))
