"""Tiny random checkpoints with the real classes, processors and special tokens; built offline in a second.

Only the weights are not real, so the loading code under test runs as it does with the published models.
"""

import json
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import transformers as tf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

tf.utils.logging.disable_progress_bar()
torch.set_num_threads(1)  # with busy cores, waiting threads make these tiny models many times slower

CORPUS = [
    "blue cotton t-shirt with round neck",
    "wireless mouse usb receiver 2.4 GHz",
    "coffee machine, red, number 7",
    "Represent the user's input.",
    "a photo of a cat on a white sofa",
] * 20
QWEN_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
# The shape of the published template: content parts with a type, image placeholders between vision markers.
CHAT_TEMPLATE = (
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n"
    "{%- if m.content is string -%}{{ m.content }}"
    "{%- else -%}{%- for c in m.content -%}"
    "{%- if c.type == 'image' or 'image' in c -%}<|vision_start|><|image_pad|><|vision_end|>"
    "{%- elif c.type == 'video' or 'video' in c -%}<|vision_start|><|video_pad|><|vision_end|>"
    "{%- elif 'text' in c -%}{{ c.text }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "<|im_end|>\n{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{%- endif -%}"
)


def photo(seed: int = 0, size: tuple[int, int] = (80, 60)) -> Image.Image:
    """A photo of noise, RGB, width x height."""
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def qwen_vl(folder: Path, arch: str = "qwen3_vl", *, modules: bool = True, tied: bool = True, seed: int = 0) -> Path:
    """Qwen3-VL or Qwen2-VL; with ``modules`` as Qwen3-VL-Embedding is published, else a bare checkpoint.

    ``tied``: the head is the table of tokens, as in the small published models.
    """
    torch.manual_seed(seed)
    tokenizer = _byte_level(QWEN_SPECIAL)
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=QWEN_SPECIAL[1:],
        padding_side="right",
        model_max_length=2048,
    )
    ids = {token: fast.convert_tokens_to_ids(token) for token in QWEN_SPECIAL}
    hidden = 64
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = {
        "vocab_size": len(fast),
        "hidden_size": hidden,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": rope,
        "pad_token_id": fast.pad_token_id,
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "initializer_range": 0.1,  # with the usual 0.02 all random items look alike
    }
    common = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": tied,
    }
    if arch == "qwen3_vl":
        text |= {"head_dim": 16, "rope_parameters": rope | {"mrope_interleaved": True}}
        vision = {
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        }
        model = tf.Qwen3VLForConditionalGeneration(tf.Qwen3VLConfig(text_config=text, vision_config=vision, **common))
        processor, patch, video = tf.Qwen3VLProcessor, 16, tf.Qwen3VLVideoProcessor
    else:
        vision = {"depth": 2, "embed_dim": 32, "num_heads": 2, "mlp_ratio": 2, "hidden_size": hidden, "patch_size": 14}
        model = tf.Qwen2VLForConditionalGeneration(tf.Qwen2VLConfig(text_config=text, vision_config=vision, **common))
        processor, patch, video = tf.Qwen2VLProcessor, 14, tf.Qwen2VLVideoProcessor
    unit = (2 * patch) ** 2
    size = {"shortest_edge": 4 * unit, "longest_edge": 64 * unit}
    shape = {"size": size, "patch_size": patch, "merge_size": 2, "temporal_patch_size": 2}
    model.save_pretrained(folder)
    processor(
        image_processor=tf.Qwen2VLImageProcessor(**shape),
        tokenizer=fast,
        video_processor=video(**shape),
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)
    if modules:
        _sentence_transformers_files(folder, hidden)
    return folder


def clip(folder: Path, seed: int = 0) -> Path:
    """CLIP with its tokenizer of 77 positions."""
    torch.manual_seed(seed)
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=end))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, [start, end], end_of_word_suffix="</w>")
    tokenizer.post_processor = _template(tokenizer, f"{start} $A {end}", [start, end])
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token=end,
        model_max_length=77,
    )
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = tf.CLIPConfig(
        text_config=tower
        | {
            "vocab_size": len(fast),
            "max_position_embeddings": 77,
            "bos_token_id": fast.bos_token_id,
            "eos_token_id": fast.eos_token_id,
            "pad_token_id": fast.pad_token_id,
            "projection_dim": 24,
        },
        vision_config=tower | {"image_size": 64, "patch_size": 16, "projection_dim": 24},
        projection_dim=24,
        initializer_factor=5.0,
    )
    tf.CLIPModel(config).save_pretrained(folder)
    images = tf.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    tf.CLIPProcessor(image_processor=images, tokenizer=fast).save_pretrained(folder)
    return folder


def siglip(folder: Path, seed: int = 0) -> Path:
    """SigLIP, which attends to its padding; 32 positions."""
    torch.manual_seed(seed)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, ["<unk>", "</s>"])
    tokenizer.post_processor = _template(tokenizer, "$A </s>", ["</s>"])
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        pad_token="</s>",
        unk_token="<unk>",
        model_max_length=32,
        model_input_names=["input_ids"],  # no mask: the published model has none
    )
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = tf.SiglipConfig(
        text_config=tower
        | {
            "vocab_size": len(fast),
            "max_position_embeddings": 32,
            "pad_token_id": fast.pad_token_id,
            "eos_token_id": fast.eos_token_id,
            "bos_token_id": fast.eos_token_id,
        },
        vision_config=tower | {"image_size": 64, "patch_size": 16},
    )
    tf.SiglipModel(config).save_pretrained(folder)
    images = tf.SiglipImageProcessor(size={"height": 64, "width": 64})
    tf.SiglipProcessor(image_processor=images, tokenizer=fast).save_pretrained(folder)
    return folder


def text_model(folder: Path, seed: int = 0, *, modules: bool = True) -> Path:
    """A small BERT with mean pooling, as sentence-transformers saves one; or bare."""
    torch.manual_seed(seed)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = _template(tokenizer, "[CLS] $A [SEP]", ["[CLS]", "[SEP]"])
    fast = tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
        model_max_length=64,
    )
    config = tf.BertConfig(
        vocab_size=len(fast),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    tf.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    fast.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny\n", "utf-8")
    if modules:
        _write(folder / "modules.json", [_module(0, "", _TRANSFORMER), _module(1, "1_Pooling", _POOLING)])
        _write(folder / "1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": "mean"})
        _write(folder / "sentence_bert_config.json", {"max_seq_length": 48})
    return folder


_TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
_POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
_NORMALIZE = "sentence_transformers.sentence_transformer.modules.Normalize"


def _sentence_transformers_files(folder: Path, hidden: int) -> None:
    _write(
        folder / "modules.json",
        [_module(0, "", _TRANSFORMER), _module(1, "1_Pooling", _POOLING), _module(2, "2_Normalize", _NORMALIZE)],
    )
    _write(
        folder / "1_Pooling/config.json",
        {"embedding_dimension": hidden, "pooling_mode": "lasttoken", "include_prompt": True},
    )
    _write(folder / "2_Normalize/config.json", {})
    method = {"method": "forward", "method_output_name": "last_hidden_state"}
    _write(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "modality_config": {
                "text": method,
                "image": method,
                "video": method,
                "message": method | {"format": "structured"},
            },
            "module_output_name": "token_embeddings",
            "processing_kwargs": {"chat_template": {"add_generation_prompt": True}},
            "unpad_inputs": False,
        },
    )
    _write(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "Retrieve the matching product.", "document": "Represent the user's input."},
            "default_prompt_name": "query",
            "similarity_fn_name": "cosine",
        },
    )


def _module(number: int, path: str, kind: str) -> dict[str, object]:
    return {"idx": number, "name": str(number), "path": path, "type": kind}


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), "utf-8")


def _byte_level(special: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, special)
    return tokenizer


def _train(tokenizer: Tokenizer, special: list[str], **kwargs: object) -> None:
    alphabet = pre_tokenizers.ByteLevel.alphabet()  # every byte is a token, so nothing is unknown
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False, **kwargs
        ),
    )


def _template(tokenizer: Tokenizer, single: str, tokens: list[str]) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(single=single, special_tokens=[(t, tokenizer.token_to_id(t)) for t in tokens])
