"""The peers that suites can name, with the settings that their authors published for MovieLens-1M, or defaults."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from molar_eval.models.base import Model
from molar_eval.models.peers.environments import CORNAC, RECBOLE, RECTOOLS, PeerEnvironment
from molar_eval.models.peers.peer import Peer

_UNTIL = {"epochs": 100, "patience": 10}
_LONG = {"session_max_len": 200, "n_blocks": 2, "lr": 1e-3, "batch_size": 128}
_HSTU = {
    **_LONG,
    "n_factors": 50,
    "n_heads": 1,
    "dropout_rate": 0.2,
    "loss": "sampled_softmax",
    "n_negatives": 128,
    "lightning_module_kwargs": {"logits_t": 0.05},
}
_RECTOOLS, _RECBOLE = "rectools-transformers.py", "recbole-sequential.py"

_PEERS: dict[str, tuple[PeerEnvironment, str, dict[str, Any], str]] = {
    "RecTools SASRec": (
        RECTOOLS,
        _RECTOOLS,
        {
            "model": "SASRec",
            "settings": {**_LONG, "n_factors": 64, "n_heads": 1, "dropout_rate": 0.1, "loss": "softmax"},
            **_UNTIL,
        },
        "sizes of github.com/blondered/transformer_benchmark (configs/paper/loo/ml_1m.yaml), with the full softmax of "
        "Klenitskiy and Vasilev 2023 (arXiv 2309.07602)",
    ),
    "RecTools BERT4Rec": (
        RECTOOLS,
        _RECTOOLS,
        {
            "model": "BERT4Rec",
            "settings": {
                **_LONG, "n_factors": 64, "n_heads": 2, "dropout_rate": 0.1, "loss": "softmax", "mask_prob": 0.2,
            },
            **_UNTIL,
        },
        "Klenitskiy and Vasilev 2023 (arXiv 2309.07602)",
    ),
    "RecTools HSTU": (
        RECTOOLS,
        _RECTOOLS,
        {"model": "HSTU", "settings": _HSTU, **_UNTIL},
        "github.com/meta-recsys/generative-recommenders, HSTU for MovieLens-1M: 128 negatives, temperature 0.05",
    ),
    "RecBole GRU4Rec": (
        RECBOLE,
        _RECBOLE,
        {"model": "GRU4Rec", "settings": {}, "epochs": 300, "patience": 10},
        "RecBole's defaults: 64 factors, 128 hidden, dropout 0.3, the last 50 items, cross-entropy over all",
    ),
    "Cornac VBPR": (
        CORNAC,
        "cornac-vbpr.py",
        {"model": "VBPR", "settings": {}, "epochs": 50},
        "Cornac's defaults: 10 + 10 factors, learning rate 0.005; our content vectors are the features of the items",
    ),
}  # fmt: skip


def peers(environments: Path) -> dict[str, Callable[[], Model]]:
    """Makes each of them by name; ``environments`` is where theirs are made."""
    return {
        name: partial(Peer, name, environment, environments, script, options, source)
        for name, (environment, script, options, source) in _PEERS.items()
    }
