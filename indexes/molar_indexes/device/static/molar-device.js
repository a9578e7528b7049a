/**
 * A shop that answers on the device: everything is loaded once, then nothing is asked of anybody.
 *
 *     import { load } from "./molar-device.js";
 *     const shop = await load("./");
 *     const answer = await shop.recommend(["42", "1337"], { k: 10 });
 *     answer.items[0].title
 *
 * A history is a list of ids, the oldest first, or of {item_id, time} with seconds since 1970. It is read, and kept
 * nowhere.
 */
import { encode } from "./user-encoder.js";
import { ranked } from "./ranking.js";

const FORMAT = 1;
const MANIFEST = "device.json";

/**
 * Load a shop from the folder that `molar export` wrote.
 *
 * @param {string | URL} folder Its address.
 * @returns {Promise<DeviceShop>}
 */
export async function load(folder = "./") {
  const base = new URL(folder, document.baseURI);
  const manifest = await (await fetched(base, MANIFEST)).json();
  if (manifest.format !== FORMAT) {
    throw new Error(`${base} is in format ${manifest.format}, this program reads ${FORMAT}: export the shop again`);
  }
  if (!manifest.files.index) throw new Error(`${base} is not finished: export the shop again`);
  const { encoder, index, items, photos } = manifest.files;
  const [tensors, named, pictures, session] = await Promise.all([
    tensorsOf(base, index),
    fetched(base, items).then((reply) => reply.json()),
    photos ? tensorsOf(base, photos) : null, // all at once, as to load those of a list would tell of it
    encoder ? sessionOf(base, encoder) : null,
  ]);
  return new DeviceShop(base, manifest, tensors, named, pictures, session);
}

export class DeviceShop {
  #base;
  #facts;
  #tensors;
  #named;
  #rows;
  #session;
  #pictures;
  #photos = new Map();

  /** By {@link load}. */
  constructor(base, manifest, tensors, named, pictures, session) {
    this.#base = base;
    this.#facts = manifest.facts;
    this.#tensors = tensors;
    this.#named = named;
    this.#session = session;
    this.#rows = new Map(named.ids.flatMap((id, row) => (id ? [[id, row]] : [])));
    this.#pictures = pictures;
    /** Name of the generation that it is of. */
    this.generation = manifest.generation;
    /** Of all that answers; another one means other answers. */
    this.digest = manifest.digest;
    /** When it was exported: items, rules and what may be shown are as they were then. */
    this.made = new Date(manifest.made);
    /** What the shop's server heeds and this does not, in sentences. */
    this.leftOut = manifest.left_out;
  }

  /**
   * What somebody should see next.
   *
   * @param {(string | {item_id: string, time?: number})[]} history Oldest first. Where one has no time, it is read as if
   *   all of it were at one moment, just now. Without a known item the answer is what is popular.
   * @param {{k?: number, filter_seen?: boolean, rerank?: boolean, now?: Date}} options How many items; whether those of the history
   *   may come back; whether the second stage moves what it can; from when the age of what is fresh counts, and whether somebody comes back.
   */
  async recommend(history, { k = 10, filter_seen = true, rerank = true, now = new Date() } = {}) {
    const { rows, seconds, unknown } = this.#read(history);
    const hidden = new Set(filter_seen ? rows : []);
    if (!rows.length) return this.#popular(k, hidden, unknown);
    const user = await encode(rows, seconds, this.#facts, this.#tensors, this.#session);
    const asked = { user, rows, last: seconds.at(-1), hidden, k, rerank, now: Number(now) };
    const places = ranked({ ...asked, facts: this.#facts, tensors: this.#tensors });
    return this.#told("aligned", k, places, unknown);
  }

  /** What most people took, whoever asks. */
  popular({ k = 10, exclude = [] } = {}) {
    const { rows, unknown } = this.#read(exclude);
    return this.#popular(k, new Set(rows), unknown);
  }

  /** An item by its id, whether or not it may come; null where there is none. */
  item(id) {
    const row = this.#rows.get(id);
    return row === undefined ? null : this.#item(row);
  }

  /** The items that may come. */
  items() {
    return [...this.#rows.values()].filter((row) => this.#tensors.shown.data[row]).map((row) => this.#item(row));
  }

  /** Whether the folder still has what was loaded. This asks the server, for one small file that is the same for all. */
  async isCurrent() {
    const manifest = await (await fetched(this.#base, MANIFEST, { cache: "no-store" })).json();
    return manifest.digest === this.digest;
  }

  #read(history) {
    const latest = history.map((one) => (typeof one === "string" ? { item_id: one } : one));
    const known = latest.filter(({ item_id }) => this.#rows.has(item_id));
    const unknown = [...new Set(latest.map(({ item_id }) => item_id))].filter((id) => !this.#rows.has(id));
    const timed = known.every(({ time }) => Number.isFinite(time));
    if (timed) known.sort((a, b) => a.time - b.time);
    return {
      rows: known.map(({ item_id }) => this.#rows.get(item_id)),
      seconds: known.map(({ time }) => (timed ? Math.floor(time) : 0)),
      unknown,
    };
  }

  #popular(k, hidden, unknown) {
    const rows = [...this.#tensors.popular.data].filter((row) => !hidden.has(row)).slice(0, k);
    return this.#told("popularity", k, rows.map((row) => ({ row, score: null, parts: {} })), unknown);
  }

  #told(basis, k, places, unknown) {
    const items = places.map(({ row, score, parts }, place) => ({ rank: place + 1, ...this.#item(row), score, parts }));
    return { generation: this.generation, basis, k, items, unknown };
  }

  #item(row) {
    const payload = Object.entries(this.#named.payload).map(([name, values]) => [name, values[row]]);
    return {
      item_id: this.#named.ids[row],
      title: this.#named.titles[row],
      payload: Object.fromEntries(payload),
      photo: this.#pictures && this.#photo(row),
    };
  }

  /** Address of a photo in the memory of the page, or null. */
  #photo(row) {
    if (!this.#photos.has(row)) {
      const { ends, bytes } = this.#pictures;
      const own = bytes.data.subarray(row ? ends.data[row - 1] : 0, ends.data[row]);
      this.#photos.set(row, own.length ? URL.createObjectURL(new Blob([own], { type: "image/jpeg" })) : null);
    }
    return this.#photos.get(row);
  }
}

async function fetched(base, name, options = {}) {
  const reply = await fetch(new URL(name, base), { credentials: "omit", ...options });
  if (!reply.ok) throw new Error(`${name} cannot be loaded (${reply.status}): load the page again`);
  return reply;
}

/** ONNX Runtime with the user encoder; on one thread, which needs no special headers of the server. */
async function sessionOf(base, name) {
  const [runtime, wasm, model] = await Promise.all([
    import("./ort.wasm.bundle.min.js"),
    fetched(new URL("./", import.meta.url), "ort-wasm-simd-threaded.wasm.gz").then(unpacked),
    fetched(base, name).then((reply) => reply.arrayBuffer()),
  ]);
  runtime.env.wasm.numThreads = 1;
  runtime.env.wasm.wasmBinary = wasm;
  const session = await runtime.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { session, Tensor: runtime.Tensor };
}

/** What a gzip file has in it, also where the server has told the browser to unpack it. */
async function unpacked(reply) {
  const bytes = await reply.arrayBuffer();
  const [first, second] = new Uint8Array(bytes, 0, 2);
  if (first !== 0x1f || second !== 0x8b) return bytes;
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

const ARRAYS = { F64: Float64Array, F32: Float32Array, I32: Int32Array, U16: Uint16Array, U8: Uint8Array };

/** The tensors of a safetensors file by name, without copies: {data, shape}. */
async function tensorsOf(base, name) {
  const buffer = await (await fetched(base, name)).arrayBuffer();
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  const found = {};
  for (const [key, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(head)) {
    const Kind = ARRAYS[dtype];
    found[key] = { data: new Kind(buffer, 8 + length + begin, (end - begin) / Kind.BYTES_PER_ELEMENT), shape };
  }
  return found;
}
