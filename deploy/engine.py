"""Container engines that build an image and run it as a cluster does: no root, no capabilities, a read-only root."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

Process = subprocess.Popen[str]

USER = "1000:1000"
HOME = "/home/quickstudy"
ENGINES = ("docker", "podman", "buildah")

# Makes the container's root read-only under $1 and becomes the user; the mounts that follow are SOURCE TARGET MODE.
CHROOT = """
set -eu
root=$1 user=$2 mounts=$3; shift 3
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount --rbind /proc "$root/proc"; mount --rbind /sys "$root/sys"; mount --rbind /dev "$root/dev"
for folder in /tmp /home/quickstudy /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "$root$folder"; done
for file in /etc/resolv.conf /etc/hosts; do mount --bind "$file" "$root$file"; done
while [ "$mounts" -gt 0 ]; do
  mount --bind "$1" "$root$2"
  [ "$3" = rw ] || mount -o remount,ro,bind "$root$2"
  mounts=$((mounts - 1)); shift 3
done
exec chroot --userspec="$user" "$root" "$@"
"""


@dataclass
class Setting:
    """What a container is given.

    Args:
        entrypoint: Whether the command follows the image's own entry point.
        env: Environment variables beside the image's.
        folders: Folders of this machine, by the folder inside that shows them; they cannot be written.
    """

    entrypoint: bool = False
    env: dict[str, str] = field(default_factory=dict)
    folders: dict[str, Path] = field(default_factory=dict)


class Engine(Protocol):
    """Builds an image and starts containers of it."""

    def build(self, context: Path, image: str) -> None:
        """Builds the folder's Dockerfile."""

    def config(self, image: str) -> dict[str, Any]:
        """Returns what the image says of itself: Env, User, Entrypoint, WorkingDir."""

    def start(self, image: str, command: Sequence[str], setting: Setting) -> Process:
        """Starts a container; its output comes as one text stream.

        Args:
            image: The image.
            command: What follows the image's entry point, or replaces it.
            setting: What the container is given.
        """

    def close(self) -> None:
        """Removes containers and volumes."""


def call(*command: str) -> str:
    """A command's output.

    Raises:
        CalledProcessError: If it fails.
    """
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _start(command: Sequence[str]) -> Process:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)


class Docker:
    """Docker or Podman, whose command lines are the same here.

    Args:
        program: "docker" or "podman".
        volumes: Folders inside that are kept between containers and can be written.
    """

    def __init__(self, program: str, volumes: Sequence[str]) -> None:
        self.program = program
        self.volumes = {target: call(program, "volume", "create").strip() for target in volumes}

    def build(self, context: Path, image: str) -> None:
        """Builds the folder's Dockerfile."""
        subprocess.run([self.program, "build", "-t", image, str(context)], check=True)

    def config(self, image: str) -> dict[str, Any]:
        """Returns what the image says of itself."""
        return json.loads(call(self.program, "image", "inspect", image))[0]["Config"]

    def start(self, image: str, command: Sequence[str], setting: Setting) -> Process:
        """Starts a container."""
        options = ["--rm", "--init", "--read-only", "--tmpfs=/tmp:mode=1777", f"--tmpfs={HOME}:mode=1777"]
        options += ["--shm-size=1g", f"--user={USER}", "--cap-drop=ALL"]
        options += ["--security-opt=no-new-privileges", "--security-opt=label=disable"]  # SELinux: folders as they are
        options += [f"--volume={name}:{target}" for target, name in self.volumes.items()]
        options += [f"--volume={source}:{target}:ro" for target, source in setting.folders.items()]
        options += [f"--env={name}={value}" for name, value in setting.env.items()]
        options += [] if setting.entrypoint else [f"--entrypoint={command[0]}"]
        return _start([self.program, "run", *options, image, *(command if setting.entrypoint else command[1:])])

    def close(self) -> None:
        """Removes the volumes."""
        call(self.program, "volume", "rm", "-f", *self.volumes.values())


class Buildah:
    """Buildah, as root, on a machine without an engine: `buildah run` cannot make the root read-only, a mount can.

    Args:
        volumes: Folders inside that are kept between containers and can be written.
    """

    def __init__(self, volumes: Sequence[str]) -> None:
        self._kept = tempfile.TemporaryDirectory()
        self.volumes = {target: Path(self._kept.name) / str(number) for number, target in enumerate(volumes)}
        for folder in self.volumes.values():
            folder.mkdir()
            folder.chmod(0o1777)
        os.chmod(self._kept.name, 0o755)
        self._roots: dict[str, tuple[str, Path]] = {}

    def build(self, context: Path, image: str) -> None:
        """Builds the folder's Dockerfile."""
        subprocess.run(["buildah", "bud", "-t", image, str(context)], check=True)

    def config(self, image: str) -> dict[str, Any]:
        """Returns what the image says of itself."""
        return json.loads(call("buildah", "inspect", "--type=image", image))["OCIv1"]["config"]

    def start(self, image: str, command: Sequence[str], setting: Setting) -> Process:
        """Starts a container's process."""
        config = self.config(image)
        mounts = [(str(source), target, "rw") for target, source in self.volumes.items()]
        mounts += [(str(source), target, "ro") for target, source in setting.folders.items()]
        root = self._root(image)
        for _, target, _ in mounts:
            (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        variables = [*config["Env"], *(f"{name}={value}" for name, value in setting.env.items())]
        inside = ["env", "-i", f"--chdir={config['WorkingDir']}", *variables]
        inside += [*(config["Entrypoint"] if setting.entrypoint else []), *command]
        listed = [word for mount in mounts for word in mount]
        shell = ["sh", "-c", CHROOT, "sh", str(root), USER, str(len(mounts)), *listed]
        return _start(["unshare", "--mount", *shell, *inside])

    def _root(self, image: str) -> Path:
        if image not in self._roots:
            container = call("buildah", "from", "--pull-never", image).strip()
            self._roots[image] = container, Path(call("buildah", "mount", container).strip())
        return self._roots[image][1]

    def close(self) -> None:
        """Removes the containers and the volumes."""
        for container, _ in self._roots.values():
            call("buildah", "rm", container)
        self._kept.cleanup()


def open_engine(program: str, volumes: Sequence[str]) -> Engine:
    """The engine of that name, with volumes in those folders."""
    return Buildah(volumes) if program == "buildah" else Docker(program, volumes)
