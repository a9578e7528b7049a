"""What `molar finetune` takes for a language model of real size: memory and items/s of loading, encoding and training.

    python bench/finetuning.py [--steps 2] [--batch 2] [--chunk 4] [--threads N] [--scratch FOLDER] [--sizes] [--write]

The checkpoint has the geometry of Qwen3-VL-2B and random weights, which cost as much to multiply as learned ones; it
takes 4.3 GB in the scratch folder and is removed. Items are those of the demo shop, at 256 x 256 pixels (64 image
tokens) and at most 64 tokens of text. The operations of a step are counted by torch while it runs, and GPUs are
computed from them. `--write` puts the tables into docs/models.md.
"""

import argparse
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "models.md"
ROPE3 = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
ROPE2 = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
LIKELY = {"L4": 121.0, "RTX 4090": 165.0, "A100": 312.0, "H100": 989.0}
"""Dense bfloat16 peak of GPUs in teraflops, as their makers say."""
BUSY = 0.35
"""Share of it that a model of this size reaches."""
CARDS = (8, 12, 16, 24, 32, 48, 80, 141)
PIXELS, TEXT = 256 * 256, 64


@dataclass(frozen=True)
class Geometry:
    """Sizes of a published model, as its config.json has them.

    Attributes:
        names: On the hub.
        arch: ``qwen3_vl`` or ``qwen2_vl``.
        text: Of the language model.
        vision: Of the vision tower.
        tied: Whether the head is the table of tokens.
    """

    names: tuple[str, ...]
    arch: str
    text: dict[str, Any]
    vision: dict[str, Any]
    tied: bool


def qwen3(names: tuple[str, ...], width: int, layers: int, inner: int, heads: int, *, large: bool = False) -> Geometry:
    text = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": inner}
    text |= {"num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128}
    text |= {"vocab_size": 151_936, "rope_parameters": ROPE3}
    vision = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack_visual_indexes": [5, 11, 17]}
    if large:
        vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack_visual_indexes": [8, 16, 24]}
    vision |= {"num_heads": 16, "patch_size": 16, "num_position_embeddings": 2304, "out_hidden_size": width}
    return Geometry(names, "qwen3_vl", text, vision, not large)


def qwen2(names: tuple[str, ...], width: int, inner: int, heads: int, keys: int, vocabulary: int) -> Geometry:
    text = {"hidden_size": width, "num_hidden_layers": 28, "intermediate_size": inner, "rope_parameters": ROPE2}
    text |= {"num_attention_heads": heads, "num_key_value_heads": keys, "vocab_size": vocabulary}
    vision = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14, "hidden_size": width}
    return Geometry(names, "qwen2_vl", text, vision, width < 2000)


MEASURED = qwen3(("Qwen/Qwen3-VL-Embedding-2B", "Qwen/Qwen3-VL-2B-Instruct"), 2048, 28, 6144, 16)
PUBLISHED = (
    qwen2(("Qwen/Qwen2-VL-2B-Instruct",), 1536, 8960, 12, 2, 151_936),
    MEASURED,
    qwen3(("Qwen/Qwen3-VL-4B-Instruct",), 2560, 36, 9728, 32),
    qwen2(("Qwen/Qwen2-VL-7B-Instruct",), 3584, 18_944, 28, 4, 152_064),
    qwen3(("Qwen/Qwen3-VL-Embedding-8B", "Qwen/Qwen3-VL-8B-Instruct"), 4096, 36, 12_288, 32, large=True),
)


def config_of(geometry: Geometry, tokens: dict[str, int] | None = None) -> Any:
    import transformers as tf

    kind = tf.Qwen3VLConfig if geometry.arch == "qwen3_vl" else tf.Qwen2VLConfig
    text = geometry.text | {"max_position_embeddings": 32_768}
    shared = {"tie_word_embeddings": geometry.tied, **(tokens or {})}
    return kind(text_config=text, vision_config=geometry.vision, **shared)


def build(folder: Path) -> None:
    """Write the random checkpoint, with the processor of the tests' tiny ones; in a process of its own, for memory."""
    import torch
    import transformers as tf

    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_models

    torch.set_num_threads(os.cpu_count() or 1)
    tiny_models.qwen_vl(folder, modules=False)
    (folder / "model.safetensors").unlink()
    processor = tf.AutoProcessor.from_pretrained(folder)
    images = processor.image_processor
    images.size = {"shortest_edge": PIXELS, "longest_edge": 16_777_216}  # as published
    processor.save_pretrained(folder)
    small = tf.AutoConfig.from_pretrained(folder)
    ends = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    config = config_of(MEASURED, {name: getattr(small, name) for name in ends})
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(config.text_config, name, getattr(small.text_config, name))
    torch.set_default_dtype(torch.bfloat16)
    tf.Qwen3VLForConditionalGeneration(config).save_pretrained(folder)


def parameters(geometry: Geometry, rank: int) -> tuple[int, int]:
    """Numbers of the model, and of its adapter, without making any."""
    import torch
    import transformers as tf
    from peft import LoraConfig, get_peft_model

    from molar_retrieval.finetuning.lora import targets

    kind = tf.Qwen3VLModel if geometry.arch == "qwen3_vl" else tf.Qwen2VLModel
    with torch.device("meta"):
        model = kind(config_of(geometry))
        count = sum(p.numel() for p in model.parameters())
        count += 0 if geometry.tied else geometry.text["vocab_size"] * geometry.text["hidden_size"]
        config = LoraConfig(r=rank, target_modules=targets(model, geometry.names[0], vision=False))
        adapted = get_peft_model(model, config)
    return count, sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def memory() -> float:
    """Highest memory of this process, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def measure(model: Path, scratch: Path, given: argparse.Namespace) -> dict[str, Any]:
    import psutil
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from molar_retrieval.data.demo import write_demo_shop
    from molar_retrieval.data.prepare import prepare_catalogue
    from molar_retrieval.data.prepare_interactions import prepare_interactions
    from molar_retrieval.finetuning.adapter import prepared
    from molar_retrieval.finetuning.lora import LoraTrainer
    from molar_retrieval.workspace.artefacts import Workspace
    from molar_retrieval.workspace.settings import MolarSettings

    if given.threads:
        torch.set_num_threads(given.threads)
    write_demo_shop(scratch / "shop", items=100, users=160)
    workspace = Workspace.for_catalogue(scratch / ".molar", scratch / "shop")
    prepare_catalogue(scratch / "shop", workspace)
    prepare_interactions(scratch / "shop", workspace)
    settings = MolarSettings.model_validate(
        {
            "embed": {"model": str(model), "device": "cpu", "image_pixels": PIXELS, "max_text_tokens": TEXT},
            "lora": {"batch": given.batch, "mini_batch_size": given.chunk},
        }
    )

    def trainer(steps: int) -> LoraTrainer:
        lora = settings.lora.model_copy(update={"n_examples": given.batch * steps})
        return LoraTrainer(learner, data, lora, scratch / f"run{steps}", "run", 0, validates=False)

    began = perf_counter()
    with prepared(workspace, settings) as (data, learner, _):
        load, loaded = perf_counter() - began, psutil.Process().memory_info().rss / 1e9
        some = data.inputs([int(code) for name in data.tasks for code in data.draw(name, given.batch).ravel()])
        began = perf_counter()
        learner.encoder.encode(some)
        forward, encoded = (perf_counter() - began) / len(some), memory()
        with FlopCounterMode(display=False) as counter:
            trainer(1).fit()
        timed = trainer(given.steps + 1)
        timed.fit()
        return {
            "dtype": learner.encoder.info.settings["dtype"],
            "threads": torch.get_num_threads(),
            "load": load,
            "loaded": loaded,
            "encode": 1 / forward,
            "encoded": encoded,
            "train": len(some) / timed.step_seconds,
            "step": timed.step_seconds,
            "inputs": len(some),
            "trained": memory(),
            "operations": counter.get_total_flops() / len(some),
        }


def tables(found: dict[str, Any], given: argparse.Namespace) -> str:
    from molar_retrieval.workspace.settings import LoraSettings

    lora = LoraSettings()
    command = f"python bench/finetuning.py {_sizes(given, found)} --write"
    cores = f"{found['threads']} of {os.cpu_count()} logical cores ({processor()})"
    lines = [
        f"`{command}`, {cores}, {found['dtype']}, no GPU:",
        "",
        "| Qwen3-VL-2B with random weights | speed | memory |",
        "|---|---|---|",
        f"| loading | {found['load']:.0f} s | {found['loaded']:.1f} GB, as weights are mapped |",
        f"| vectors, {given.chunk} at once | {found['encode']:.2f} inputs/s | {found['encoded']:.1f} GB at most |",
        f"| training, steps of {found['inputs']:.0f} inputs, {given.chunk} at once | {found['train']:.3f} inputs/s"
        f" ({found['step']:.0f} s a step) | {found['trained']:.1f} GB at most |",
        "",
        f"A step takes {found['operations'] / 1e12:.1f} teraflops per input, counted by torch: vectors without a graph,"
        " vectors with one, and layers made again on the way back.",
        "",
        f"*Computed from it, not measured*: {lora.n_examples:,} pairs of each task in steps of {lora.batch} are"
        f" {(steps := -(-lora.n_examples // lora.batch))} steps of {(most := 6 * lora.batch)}"
        f" inputs, at {BUSY:.0%} of a GPU's dense bfloat16 peak. Reading photos, validation and early stopping are not"
        " in it; twice as long would be no surprise.",
        "",
        "| GPU | inputs/s | all steps |",
        "|---|---|---|",
    ]
    for name, peak in LIKELY.items():
        rate = peak * 1e12 * BUSY / found["operations"]
        lines.append(f"| {name} | {rate:.0f} | {steps * most / rate / 3600:.1f} h |")
    days = steps * most / found["train"] / 86_400
    lines.append(f"| this processor, as measured | {found['train']:.3f} | {days:.0f} days |")
    return "\n".join(lines)


def sizes(given: argparse.Namespace, found: dict[str, Any] | None) -> str:
    """Memory that published models take on a GPU; with a measurement, with what training takes beside the weights."""
    from molar_retrieval.workspace.settings import LoraSettings

    rank = LoraSettings().rank
    # Weights are mapped: right after loading hardly any of them are in memory.
    rest = None if found is None else max(0.0, found["trained"] - 2 * parameters(MEASURED, rank)[0] / 1e9)
    command = f"python bench/finetuning.py {'--sizes' if found is None else _sizes(given, found)} --write"
    more = (
        "without activations; the card is the smallest with half as much to spare"
        if rest is None
        else f"and the {rest:.1f} GB that training took below beside the weights, scaled by width x layers; the"
        " card is the smallest with a fifth to spare"
    )
    lines = [
        f"`{command}`: weights in bfloat16, an adapter of rank {rank} on the language model with gradients and the"
        f" optimiser's moments (16 bytes for each of its numbers), {more}.",
        "",
        "| `--model` | parameters | adapter | weights | for training | card |",
        "|---|---|---|---|---|---|",
    ]
    size = MEASURED.text["hidden_size"] * MEASURED.text["num_hidden_layers"]
    for geometry in PUBLISHED:
        count, adapter = parameters(geometry, rank)
        own = geometry.text["hidden_size"] * geometry.text["num_hidden_layers"]
        weights = 2 * count / 1e9
        needed = weights + 16 * adapter / 1e9 + (rest or 0.0) * own / size
        card = next(card for card in CARDS if card >= (1.5 if rest is None else 1.2) * needed)
        names = " or ".join(f"`{name}`" for name in geometry.names)
        told = f"{count / 1e9:.2f} G | {adapter / 1e6:.1f} M | {weights:.1f} GB | {needed:.1f} GB | {card} GB"
        lines.append(f"| {names} | {told} |")
    return "\n".join(lines)


def _sizes(given: argparse.Namespace, found: dict[str, Any]) -> str:
    return f"--steps {given.steps} --batch {given.batch} --chunk {given.chunk} --threads {found['threads']}"


def processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=4)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--scratch", type=Path, help="a folder with 5 GB of room")
    parser.add_argument("--sizes", action="store_true", help="only what published models weigh, which takes seconds")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/models.md")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build(given.build)
        return
    if given.sizes:
        put("sizes", sizes(given, None), given)
        return
    scratch = Path(tempfile.mkdtemp(dir=given.scratch))
    try:
        subprocess.run([sys.executable, __file__, "--build", str(scratch / "model")], check=True)
        found = measure(scratch / "model", scratch, given)
    finally:
        shutil.rmtree(scratch)
    put("measured", tables(found, given), given)
    put("sizes", sizes(given, found), given)


def put(name: str, text: str, given: argparse.Namespace) -> None:
    """Print tables, and put them between their marks in the document."""
    print(text)
    if given.write:
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        head, _, rest = DOCUMENT.read_text("utf-8").partition(begin)
        DOCUMENT.write_text(f"{head}{begin}\n{text}\n{end}{rest.partition(end)[2]}", "utf-8")


if __name__ == "__main__":
    main()
