"""The comment at the head of a shipped configuration: its command, the paper's figure, the protocol, the deviations."""

from reproduction.training import ROOT


def head_of(config: str) -> str:
    """The comment lines of configs/CONFIG.yaml, without their marks."""
    lines = (ROOT / "configs" / f"{config}.yaml").read_text("utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(comment)


def deviations(config: str) -> list[str]:
    """What is done otherwise than in the paper, a sentence each."""
    _, _, text = head_of(config).partition("Deviations:\n")
    found: list[str] = []
    for line in text.splitlines():
        if line.startswith("- "):
            found.append(line.removeprefix("- "))
        elif found:
            found[-1] += " " + line.strip()
    return found
