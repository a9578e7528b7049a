"""Write docs/answer.png: an answer on the demo shop as a notebook shows it; `make screenshot` runs this.

Needs Chromium (or Chrome) on the path.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

TARGET = Path(__file__).with_name("answer.png")
WIDTH, HEIGHT = 940, 560
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ font: 14px/1.35 system-ui, "DejaVu Sans", sans-serif; margin: 18px 24px; color: #1c2430; }}
code {{ background: #f0f2f5; padding: 4px 8px; border-radius: 4px; font-size: 13px; }}
table {{ border-collapse: collapse; margin-top: 14px; width: 100%; }}
caption {{ text-align: left; padding-bottom: 8px; }}
th {{ text-align: left; border-bottom: 1px solid #c8ced6; padding: 4px 10px; font-weight: 600; }}
td {{ border-bottom: 1px solid #e6e9ee; padding: 6px 10px; }}
</style><code>shop.query("{user}", k=5, where="price &lt; 80", explain=True)</code>{answer}"""


def main() -> None:
    """Make the demo shop, ask it, photograph the answer."""
    import molar
    from molar_retrieval.data.demo import write_demo_shop

    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit("no Chromium on the path: install it, say with `apt install chromium`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        facts = write_demo_shop(folder / "shop")
        shop = molar.open(folder / "shop")
        shop.embed()
        shop.align(preset="fast")
        answer = shop.query(facts.example_user, k=5, where="price < 80", explain=True)
        page = folder / "answer.html"
        page.write_text(_PAGE.format(user=facts.example_user, answer=answer._repr_html_()), encoding="utf-8")
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        command += [f"--window-size={WIDTH},{HEIGHT}", "--force-device-scale-factor=1.5", f"--screenshot={TARGET}"]
        subprocess.run([*command, page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
