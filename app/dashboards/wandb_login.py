"""Whether W&B can be online: what the user asked for, a login, and a server that takes connections."""

import netrc
import os
import socket
from pathlib import Path
from urllib.parse import urlparse

DEFAULT_URL = "https://api.wandb.ai"
DEFAULT_PORTS = {"http": 80, "https": 443}


def wandb_mode() -> str:
    """Returns what WANDB_MODE says; else "online" with a login and a network, else "offline"."""
    asked = os.environ.get("WANDB_MODE")
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        return "disabled"
    if asked:
        return {"dryrun": "offline", "run": "online"}.get(asked, asked)
    url = os.environ.get("WANDB_BASE_URL") or DEFAULT_URL
    return "online" if _logged_in(url) and _reachable(url) else "offline"


def _logged_in(url: str) -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(urlparse(url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _reachable(url: str) -> bool:
    """Tells whether the server's own port, or its scheme's, takes a connection."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True  # the proxy resolves the name
    try:
        parts = urlparse(url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        socket.create_connection((parts.hostname or "", port), timeout=3).close()
    except (OSError, ValueError, KeyError):  # a URL without a scheme, or with a port that is no number
        return False
    return True
