"""A process that updates a shop and kills itself where it would change the disk for the n-th time.

Arguments: catalogue, workspace, n; 0: never. It writes how often it changed the disk.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import molar

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


def changes(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an audit event stands for a change of the disk."""
    if event == "open":
        _, mode, flags = arguments
        return bool(mode and set(mode) & set("wax+")) or bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in _CHANGES


if __name__ == "__main__":
    shop, last, count = molar.Shop(Path(sys.argv[1]), Path(sys.argv[2])), int(sys.argv[3]), 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        """Count, and end at once when it is time."""
        global count
        if changes(event, arguments):
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    shop.update()
    sys.stdout.write(str(count))
