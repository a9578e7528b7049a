"""Writes what `molar_retrieval/encoders/builtin.py` keeps: the ImageNet names as the built-in text models read them.

    python bench/name_vectors.py [--check]

It is due when the weights of a model change. With ``--check`` nothing is written: it says how far what is kept is from
what is computed here, or that other weights made it.
"""

import argparse
import time

import numpy as np
from safetensors.numpy import save_file

from molar_retrieval.encoders import builtin, efficientnet
from molar_retrieval.workspace.settings import EmbedSettings


def main() -> None:
    """Both models, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    builtin.NAME_VECTORS.mkdir(exist_ok=True)
    for model in (builtin.NAME, builtin.MULTILINGUAL):
        weights, made = builtin.text_weights(model), {}
        began = time.process_time()
        text = builtin.text_model(EmbedSettings(model=model, device="cpu"), {})
        if isinstance(text, builtin.MultilingualE5):
            made[builtin.CENTRE] = text.centre
        made[builtin.IMAGENET_NAMES] = text.encode(efficientnet.imagenet_names())
        print(f"{model}: {time.process_time() - began:.1f} s of the processor", end="")
        if not check:
            save_file(made, builtin.NAME_VECTORS / f"{model}.safetensors", {"weights": " ".join(weights)})
        kept = builtin.name_vectors(model, weights, builtin.LONGEST_NAME)
        off = {name: float(np.abs(rows - kept[name]).max()) for name, rows in made.items() if name in kept}
        print(f", kept ones are off by {off}" if off else ", made by other weights")


if __name__ == "__main__":
    main()
