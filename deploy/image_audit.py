"""Runs inside the image and prints what it finds as JSON: what has no business there, and what takes the space."""

import json
import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

TOOLS = ("cc", "gcc", "g++", "c++", "clang", "cpp", "ld", "as", "make", "git")
HEADERS = ("/usr/include/stdio.h", "/usr/include/x86_64-linux-gnu/bits/types.h")
LEFT_OVERS = (
    "/app/.git",
    "/app/.venv",
    "/app/.ci",
    "/app/tests",
    "/app/benchmarks",
    "/app/requirements-dev.txt",
    "/root/.cache",
    "/home/quickstudy/.cache",
    "/var/lib/apt/lists/lock",
    "/tmp/requirements.txt",
)
SECRET_NAMES = (".env", ".netrc", ".npmrc", ".pypirc", ".git-credentials", "id_rsa", "id_ed25519", "credentials.json")
SECRET_ENDINGS = (".pem", ".key", ".p12")
SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
PUBLIC = ("GPG_KEY",)  # python's own image: the key that its source was signed with
OWN = ("/app", "/home", "/root", "/data")


def files_below(folder: str) -> Iterator[Path]:
    """Every file, links not followed."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def is_secret(path: Path) -> bool:
    """Tells whether a file's name says that it holds a secret."""
    return path.name in SECRET_NAMES or path.suffix in SECRET_ENDINGS


def secret_variables(names: Iterator[str] | list[str]) -> list[str]:
    """The names of environment variables that hold a secret."""
    return [name for name in names if name not in PUBLIC and any(word in name.upper() for word in SECRET_WORDS)]


def findings() -> list[str]:
    """Returns what has no business in the image, one line each."""
    found = [f"the tool {tool} is in {path}" for tool in TOOLS if (path := shutil.which(tool))]
    found += [f"{path} is there" for path in (*HEADERS, *LEFT_OVERS) if os.path.lexists(path)]
    found += [f"{path} looks like a secret" for folder in OWN for path in files_below(folder) if is_secret(path)]
    found += [f"the variable {name} looks like a secret" for name in secret_variables(list(os.environ))]
    found += [f"{path} is a static library" for path in files_below("/opt") if path.suffix == ".a"]
    if os.getuid() == 0:
        found.append("it runs as root")
    for folder in ("/", "/app", "/opt/venv", "/etc"):
        if os.access(folder, os.W_OK):
            found.append(f"{folder} can be written")
    return found


def megabytes(folder: Path) -> int:
    """Returns what the files below take on disk, in MB of 10^6 bytes; each name of a hard link once."""
    sizes = {
        (status.st_dev, status.st_ino): status.st_blocks * 512 for status in map(os.lstat, files_below(str(folder)))
    }
    return sum(sizes.values()) // 10**6


def parts() -> dict[str, int]:
    """The folders of the root, and the packages of the environment, with their sizes in MB."""
    packages = Path(sysconfig.get_path("purelib"))
    folders = [Path(path) for path in ("/usr", "/var", "/app", "/opt/venv")]
    folders += [path for path in packages.iterdir() if path.is_dir()]
    nvidia = packages / "nvidia"
    folders += [path for path in nvidia.iterdir() if path.is_dir()] if nvidia.is_dir() else []
    sizes = {str(folder): megabytes(folder) for folder in folders}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    print(json.dumps({"findings": findings(), "parts": parts()}))
