"""Write docs/storefront.webp: the page of `molar demo --serve` on the made-up shop; `make screenshot` runs this.

Needs Chromium (or Chrome) on the path.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from browser import Browser

TARGET = Path(__file__).with_name("storefront.webp")
WIDTH, HEIGHT = 1280, 860
_DEMO = "from molar_cli.app import main; main()"


def main() -> None:
    """Open the demo shop, buy something, look at something, photograph the list."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-c", _DEMO, "demo", name, "--serve", "--no-browser", "--quiet"]
        shop = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert shop.stdout is not None
        line = next((line for line in iter(shop.stdout.readline, "") if "is open at" in line), None)
        if line is None:
            raise SystemExit("the demo shop does not open")
        with Browser(WIDTH, HEIGHT) as browser:
            browser.go(line.split("is open at ")[1].partition(";")[0])
            for number, doing in enumerate(("buy", "look"), 1):
                browser.wait("document.querySelector('#list .does button:enabled') !== null")
                browser.run(f"document.querySelector('#list .{doing}').click()")
                browser.wait(f"document.querySelectorAll('#history .photo').length === {number}")
            for number in (12, 24, 36):  # what the server does for the first time is behind it
                browser.wait(f"Number(document.getElementById('events').textContent) > {number}")
            browser.picture(TARGET)
        shop.terminate()
        shop.wait()
        shop.stdout.close()


if __name__ == "__main__":
    main()
