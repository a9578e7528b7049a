"""The command line."""


def main() -> None:
    """Run the command `molar`.

    What it imports is not imported here: processes that work for a command read the module that their program names.
    """
    from molar_cli.app import main as run

    run()
