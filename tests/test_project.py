import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import methods_page, recommender_page
from tools.check_files import problems_of

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pins}


def required(names: list[str]) -> set[str]:
    """Return everything that installing `names` brings along, by what is installed now."""
    seen: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": e}) for e in extras
        ):
            continue
        if name in seen:
            continue
        seen.add(name)
        for text in metadata.requires(name) or []:
            further = Requirement(text)
            marker = further.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                further.marker = None
                waiting.append(further)
    return seen


def test_constraints_pin_all_that_an_installation_brings() -> None:
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    build = [Requirement(text).name for text in PROJECT["build-system"]["requires"]]
    unpinned = (required(wanted) | set(build)) - pinned().keys()
    assert not unpinned


def test_constraints_allow_what_the_project_asks_for() -> None:
    project = PROJECT["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(text)
        version = pinned()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), text


def test_constraints_name_no_local_build_and_are_sorted() -> None:
    assert not [version for version in pinned().values() if "+" in version]
    names = list(pinned())
    assert names == sorted(names)


def test_this_environment_has_the_pinned_versions() -> None:
    for name, version in pinned().items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # another platform needs it
        assert installed.partition("+")[0] == version, name


@pytest.mark.parametrize("words", [["med", "--help"], ["med", "pretrain", "--help"]])
def test_the_command_of_the_checkout_answers(words: list[str]) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Usage: cli.py med" in done.stdout


def test_installed_commands_lead_to_something() -> None:
    for target in PROJECT["project"]["scripts"].values():
        module = target.partition(":")[0].replace(".", "/")
        assert (ROOT / f"{module}.py").is_file()


@pytest.mark.parametrize("module", ["medssl.cli", "recssl.cli", "cli"])
def test_importing_a_command_line_imports_nothing_heavy(module: str) -> None:
    script = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'monai', 'polars', 'numpy', 'pydantic', 'pydicom', 'rich'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_hooks_call_tools_that_the_environment_has() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    tools = [hook["entry"].split()[0] for hook in hooks if hook["language"] == "system"]
    for tool in tools:
        folder, name = tool.rsplit("/", 1)
        assert folder == ".venv/bin"
        assert Path(sys.prefix, "bin", name).is_file()


def test_every_file_under_300_lines() -> None:
    code = [
        path
        for name in ("sslcore", "medssl", "recssl", "tools")
        for path in (ROOT / name).rglob("*.py")
    ]
    long = {str(path.relative_to(ROOT)) for path in code if len(path.read_text().split("\n")) > 300}
    assert not long


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("scan.dcm", b"", "a medical image; tests write their own"),
        ("scan", bytes(128) + b"DICM", "a medical image; tests write their own"),
        ("brain.nii.gz", b"", "a medical image; tests write their own"),
        ("big.png", bytes(500_001), "500001 bytes, more than 500000"),
        ("key.txt", b"-----BEGIN " + b"RSA PRIVATE KEY-----", "a private key"),
        ("code.py", b"a = 1\n" + b"<" * 7 + b" HEAD\n", "a merge mark"),
        ("bad.yaml", b"a: [", "bad syntax: "),
        ("bad.toml", b"a = ", "bad syntax: "),
    ],
)
def test_the_commit_hook_refuses(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    (found,) = problems_of(tmp_path / name)
    assert found.startswith(problem)


def test_the_commit_hook_lets_ordinary_files_pass(tmp_path: Path) -> None:
    for name, content in (("a.yaml", "a: 1\n"), ("a.toml", "a = 1\n"), ("a.md", "Title\n=====\n")):
        (tmp_path / name).write_text(content)
        assert not problems_of(tmp_path / name)


def test_make_says_what_it_offers() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    described = {match[1] for line in lines if (match := re.match(r"# make (\w+)", line))}
    phony = next(line for line in lines if line.startswith(".PHONY:")).split()[1:]
    assert described == set(phony) - {"install"}


def test_the_page_of_methods_is_what_the_methods_say() -> None:
    for made in (methods_page, recommender_page):
        assert made.PAGE.read_text(encoding="utf-8") == made.page(), (
            f"run python -m {made.__name__}"
        )
