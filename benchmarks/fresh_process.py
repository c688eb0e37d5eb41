"""Processes that have computed nothing, where this one's allocator and caches would be in the way."""

import multiprocessing
from multiprocessing.pool import Pool

import torch


def fresh_pool(device: torch.device, module: str) -> Pool:
    """A pool of one process that has imported a module and computed nothing."""
    # From a server that has done so it takes milliseconds, and no thread of this process is lost in it. What has asked
    # for a GPU while importing cannot be forked.
    context = multiprocessing.get_context("spawn" if device.type == "cuda" else "forkserver")
    context.set_forkserver_preload([module])
    return context.Pool(1)
