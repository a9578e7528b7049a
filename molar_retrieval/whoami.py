"""Who runs this process, for records of who did what."""

import getpass


def user_name() -> str:
    """The name of the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # as in a container whose user has no name
        return "somebody without a name"
