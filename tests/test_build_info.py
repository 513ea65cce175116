import os
import re
import subprocess
from pathlib import Path

import pytest

from amp_workers.build_info import ENVIRONMENT, build_info
from tests.processes import ROOT

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["/usr/bin/git", "-C", str(directory), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Create a checkout of one commit with the package `worker`, and return the package."""
    package = tmp_path / "checkout" / "worker"
    package.mkdir(parents=True)
    (package / "code.py").write_text("")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "--message=first", "--date=2025-01-15T14:30:00+00:00")
    return package


def test_a_checkout_without_tags_counts_its_commits(checkout: Path) -> None:
    info = build_info({}, checkout)
    sha = git(checkout, "rev-parse", "HEAD")
    assert info["version"] == f"v0.0.0-1-g{sha[:8]}"
    assert info["commit_sha"] == sha
    assert re.fullmatch(r"[0-9a-f]{40}", sha)
    assert TIMESTAMP.fullmatch(info["commit_timestamp"])
    assert TIMESTAMP.fullmatch(info["build_date"])


def test_a_checkout_is_described_from_its_tag(checkout: Path) -> None:
    git(checkout, "tag", "v0.1.0")
    assert build_info({}, checkout)["version"] == "v0.1.0"
    git(checkout, "commit", "--quiet", "--allow-empty", "--message=second")
    assert re.fullmatch(r"v0\.1\.0-1-g[0-9a-f]{8}", build_info({}, checkout)["version"])


@pytest.mark.parametrize("tagged", [False, True])
def test_a_changed_checkout_is_dirty(checkout: Path, tagged: bool) -> None:
    if tagged:
        git(checkout, "tag", "v0.1.0")
    (checkout / "code.py").write_text("changed")
    assert build_info({}, checkout)["version"].endswith("-dirty")


def test_the_version_is_unknown_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    assert build_info({}, tmp_path / "somewhere" / "worker") == {}
    monkeypatch.setenv("PATH", "")
    assert build_info({}, checkout) == {}


def test_an_installation_inside_a_foreign_checkout_does_not_use_its_version(checkout: Path) -> None:
    assert build_info({}, checkout / "site-packages" / "worker") == {}


def test_the_environment_overrides_each_field_separately(checkout: Path) -> None:
    assert build_info({"AMP_BUILD_VERSION": "v9"}, checkout)["version"] == "v9"
    assert build_info({"AMP_BUILD_VERSION": "v9"}, checkout)["commit_sha"] == git(checkout, "rev-parse", "HEAD")
    assert build_info({"AMP_BUILD_VERSION": ""}, checkout)["version"] != ""
    everything = {name: f"of {key}" for key, name in ENVIRONMENT.items()}
    assert build_info(everything, checkout) == {key: f"of {key}" for key in ENVIRONMENT}


def test_this_checkout_knows_itself() -> None:
    info = build_info({})
    assert info["commit_sha"] == git(ROOT, "rev-parse", "HEAD")


def test_a_checkout_of_another_user_is_read(checkout: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a checkout to another user")
    os.chown(checkout.parent, 65534, 65534)
    os.chown(checkout.parent / ".git", 65534, 65534)
    assert build_info({}, checkout)["version"].startswith("v0.0.0-1-g")
