"""What searches cost a server: memory and CPU seconds of the first and of later ones, by words and by a photo.

python bench/search_memory.py path/to/.molar photo.jpg
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from molar_indexes.recommender import Recommender
from molar_retrieval.data.images import open_bytes

_TIMES = 20


def main(workspace: str, photo: str) -> None:
    """Print a line for each kind of question."""
    with Recommender.open(workspace) as recommender:
        image = open_bytes(Path(photo).read_bytes())
        _line("a list", lambda: recommender.query("nobody", fallback="popular"))
        _line("words", lambda: recommender.search("a red dress for the summer"))
        _line("a photo", lambda: recommender.search(image=image))
        print(f"torch is imported: {'torch' in sys.modules}")


def _line(name: str, ask: Callable[[], object]) -> None:
    first = _seconds(ask)
    later = sum(_seconds(ask) for _ in range(_TIMES)) / _TIMES
    resident = psutil.Process().memory_info().rss >> 20
    print(f"{name:8} {first:6.2f} s CPU at first, {later:6.3f} s then, {resident:5,} MiB resident")


def _seconds(ask: Callable[[], object]) -> float:
    began = time.process_time()
    ask()
    return time.process_time() - began


if __name__ == "__main__":
    main(*sys.argv[1:])
