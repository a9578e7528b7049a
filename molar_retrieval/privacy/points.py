"""Files of the embedded engine: numbers as they are, payloads unpacked."""

import json
import struct
from pathlib import Path

import pyarrow as pa

from molar_retrieval.privacy.blocks import look_at_bytes
from molar_retrieval.privacy.found import FileFindings, UndecodableError
from molar_retrieval.privacy.needles import Needles
from molar_retrieval.privacy.texts import look_at_document

CONFIG = "edge_config.json"
"""The file that marks an index of the engine."""
NUMBERS = ("matrix.dat", "graph.bin", "links_compressed.bin", "inverted_index.dat", "tracker.dat", "deleted.dat")
KNOWN = (".dat", ".bin", ".mappings", ".deleted", ".versions", ".info")
_POINTER = struct.Struct("<IIII")  # whether there is one, page, block, bytes


def look_at_points(path: Path, needles: Needles, found: FileFindings) -> None:
    """Look through a file of the engine; payloads, which are packed, are looked through with the first page."""
    look_at_bytes(path, needles, found, names=path.name not in NUMBERS)
    if path.name.startswith("page_"):
        config = path.parent / "config.json"
        try:
            how = json.loads(config.read_bytes())
            packing, block = how["compression"], int(how["block_size_bytes"])
        except (OSError, ValueError, KeyError) as error:
            raise UndecodableError(f"{config.name} does not say how it is packed: {error}") from error
        if packing == "None":
            return
        if packing != "LZ4":
            raise UndecodableError(f"it is packed by {packing}")
        _unpack(path, block, needles, found)


def _unpack(path: Path, block: int, needles: Needles, found: FileFindings) -> None:
    page = int(path.stem.removeprefix("page_"))
    try:
        tracker = (path.parent / "tracker.dat").read_bytes()
    except OSError as error:
        raise UndecodableError(f"tracker.dat does not say where its payloads are: {error.strerror}") from error
    codec = pa.Codec("lz4_raw")
    with path.open("rb") as file:
        for point in range(int.from_bytes(tracker[:4], "little")):
            there, of, begin, size = _POINTER.unpack_from(tracker, 4 + point * _POINTER.size)
            if not there or of != page:
                continue
            file.seek(begin * block)
            packed = file.read(size)
            try:
                plain = codec.decompress(packed[4:], int.from_bytes(packed[:4], "little"), asbytes=True)
                payload = json.loads(plain)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise UndecodableError(f"the payload of point {point:,} cannot be unpacked: {error}") from error
            look_at_document(payload, f"payload of point {point:,}", "", needles, found)
