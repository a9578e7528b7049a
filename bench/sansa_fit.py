"""SANSA's side of `block_ease.py`, for an environment with `sansa` 1.1.0 (which needs SuiteSparse and a C compiler).

    python bench/sansa_fit.py FOLDER

Reads who took what (`taken.npz`) and settings, writes the two factors of its weights and what they took.
"""

import json
import os
import sys
from pathlib import Path

from sansa import SANSA, ICFGramianFactorizerConfig, SANSAConfig, UMRUnitLowerTriangleInverterConfig
from scipy.sparse import csr_matrix, load_npz, save_npz


def main(folder: Path) -> None:
    """Fit once, with the settings that its authors recommend for many items: an incomplete factorisation."""
    asked = json.loads((folder / "asked.json").read_text("utf-8"))
    taken = csr_matrix(load_npz(folder / "taken.npz"))
    before = os.times()
    config = SANSAConfig(
        l2=asked["regularisation"],
        weight_matrix_density=asked["density"],
        gramian_factorizer_config=ICFGramianFactorizerConfig(),
        lower_triangle_inverter_config=UMRUnitLowerTriangleInverterConfig(),
    )
    first, second = SANSA(config).fit(taken, compute_gramian=True).weights
    after = os.times()
    save_npz(folder / "first.npz", csr_matrix(first))
    save_npz(folder / "second.npz", csr_matrix(second))
    took = {
        "seconds": after.elapsed - before.elapsed,
        "processor": after.user + after.system - before.user - before.system,
    }
    (folder / "took.json").write_text(json.dumps(took), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
