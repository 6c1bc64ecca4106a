"""Whether W&B's server can be used: asked shortly before each upload, and not again once it could not.

What went wrong is remembered beside the runs, for all stages of a workflow run: those whose environment has the same
IOUNET_WORKFLOW. Without that variable it holds for an hour. An upload that works forgets it.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from experiments.tracking.telling import without_key
from suite.files import read_json, write_json

WORKFLOW = "IOUNET_WORKFLOW"
PROBE_SECONDS, LIFETIME = 5, 3600
MEMORY = ".server.json"


def unusable(wandb: Path) -> str | None:
    """Why nothing can be uploaded now; None if the server answers. Takes `PROBE_SECONDS` at most.

    Args:
        wandb: the suite's folder of offline runs.
    """
    if reason := remembered(wandb):
        return reason
    if reason := probe():
        remember(wandb, reason)
    return reason


def remembered(wandb: Path) -> str | None:
    """What went wrong before in this workflow run; None if nothing did."""
    try:
        known = read_json(wandb / MEMORY)
        age, workflow = time.time() - known["time"], os.environ.get(WORKFLOW)
        is_ours = known["workflow"] == workflow if workflow else 0 <= age < LIFETIME
        if not is_ours or known["server"] != _place():
            return None
        at = time.strftime("%H:%M", time.localtime(known["time"]))
        return f"{known['reason']}, at {at}, and it is not asked again {'in this run' if workflow else 'for an hour'}"
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that a kill left damaged
        return None


def remember(wandb: Path, reason: str) -> None:
    """Says to the stages that follow why not to upload."""
    known = {"server": _place(), "workflow": os.environ.get(WORKFLOW), "time": time.time()}
    write_json(wandb / MEMORY, {**known, "reason": without_key(reason)})


def forget(wandb: Path) -> None:
    """The server works."""
    (wandb / MEMORY).unlink(missing_ok=True)


def probe() -> str | None:
    """Why the server does not answer now; None if it does, be it with an error. Takes `PROBE_SECONDS` at most."""
    url = _address()._replace(netloc=_place(), path=f"{_address().path.rstrip('/')}/healthz").geturl()
    late = f"{_place()}: no answer within {PROBE_SECONDS} s"
    found: list[str | None] = [late]

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=PROBE_SECONDS).close()
            found[0] = None
        except urllib.error.HTTPError:
            found[0] = None
        except TimeoutError:
            pass
        except Exception as error:  # of many kinds: no such host, refused, no URL
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLError):
                found[0] = None  # W&B has certificates of its own to go by
            elif not isinstance(reason, TimeoutError):
                found[0] = f"{_place()}: {getattr(reason, 'strerror', None) or reason}"

    thread = threading.Thread(target=ask, daemon=True)  # nothing else bounds the look-up of a name
    thread.start()
    thread.join(PROBE_SECONDS)
    return found[0]


def _address() -> SplitResult:
    """Where W&B's server is; empty if that cannot be read."""
    try:
        return urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai")
    except ValueError:
        return urlsplit("")


def _place() -> str:
    """The server's host and port, without user and password."""
    return _address().netloc.rpartition("@")[2] or "WANDB_BASE_URL"
