"""A process that rotates the keys of a workspace and kills itself where it would change the disk for the n-th time.

Arguments: workspace, file of keys, n; 0: never. It writes how often it changed the disk.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from update_kill_child import changes

from molar_indexes.privacy.key_rotation import rotate
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.settings import IndexSettings, PrivacySettings

if __name__ == "__main__":
    place, keys, last, count = Workspace(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]), 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        """Count, and end at once when it is time."""
        global count
        if changes(event, arguments) or event == "sqlite3.connect":
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    os.environ.update(MOLAR_PRIVACY_KEY_FILE=str(keys))
    sys.addaudithook(watch)
    rotate(place, PrivacySettings(ids="pseudonymous", key_file=keys), IndexSettings())
    sys.stdout.write(str(count))
