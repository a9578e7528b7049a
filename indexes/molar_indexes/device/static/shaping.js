/** Rules of the shop that shape a list, as `ranking/shaping.py` and `compose.py` have them. */

const DAY = 86_400_000;

/** What the rules add to the score of each candidate; ages count until `now`, in milliseconds since 1970. */
export function boosts(rules, candidates, tensors, now) {
  const scores = candidates.map(({ score, moved }) => score + moved);
  const mean = scores.reduce((a, b) => a + b, 0) / Math.max(1, scores.length);
  const spread = Math.sqrt(scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / Math.max(1, scores.length));
  return candidates.map(({ row }) => {
    let added = 0;
    for (const { action, by, half_life_days: half, tensor } of rules) {
      const { data } = tensors[tensor] ?? {};
      if (action === "boost") added += by * spread * data[row];
      else if (action === "bury") added -= by * spread * data[row];
      else if (action === "fresh" && !Number.isNaN(data[row])) {
        added += by * spread * 2 ** (-Math.max(0, now / DAY - data[row]) / half);
      }
    }
    return added;
  });
}

/** The items that rules pin, by place from 0, as far as they may come. */
export function pinned(rules, k, mayCome, tensors) {
  const places = new Map();
  for (const { at, tensor } of rules.filter(({ action, at }) => action === "pin" && at <= k)) {
    const rows = [...tensors[tensor].data].filter(mayCome);
    for (let place = at - 1; place < k && rows.length; place++) {
      if (!places.has(place)) places.set(place, rows.shift());
    }
  }
  return places;
}

/**
 * At most `k` numbers of candidates, which are best first: each place has the best one that no rule keeps from it.
 * Pinned candidates, by place, count for the other rules and ignore them.
 */
export function composed(rules, candidates, k, pins, tensors) {
  const count = Math.min(k, candidates.length);
  const rows = candidates.map(({ row }) => row);
  const caps = rules.filter(({ action }) => action === "at_most").map((rule) => new Cap(rule, rows, tensors));
  const quotas = rules
    .filter(({ action }) => action === "at_least")
    .map(({ least, tensor }) => ({ least, met: 0, fulfils: rows.map((row) => tensors[tensor].data[row] > 0) }));
  const reserved = new Set(pins.values());
  for (const [place, candidate] of pins) if (place < count) caps.forEach((cap) => cap.count(candidate));
  const chosen = [];
  const free = new Set(rows.keys());
  while (chosen.length < k) {
    const place = chosen.length;
    const best = pins.has(place) ? pins.get(place) : next(place, count, free, reserved, caps, quotas, pins);
    if (best === null) break;
    free.delete(best);
    if (!reserved.has(best)) caps.forEach((cap) => cap.count(best));
    quotas.forEach((quota) => (quota.met += quota.fulfils[best]));
    chosen.push(best);
  }
  return chosen;
}

/** The best candidate that may stand at a place, or null. */
function next(place, count, free, reserved, caps, quotas, pins) {
  for (;;) {
    const open = [...free].filter((one) => !reserved.has(one) && !caps.some((cap) => cap.full.has(one)));
    const needy = forced(place, count, open, quotas, pins);
    const allowed = needy ? open.filter((one) => needy.some(({ fulfils }) => fulfils[one])) : open;
    if (!allowed.length) return null;
    for (const one of allowed) if (!caps.map((cap) => cap.keepsOut(one)).some(Boolean)) return one;
    // None of them may: what forces them is out of reach.
  }
}

/** The quotas that need all places that are left, or null. */
function forced(place, count, open, quotas, pins) {
  const ahead = [...pins].filter(([other]) => other > place).map(([, candidate]) => candidate);
  let places = count - place - ahead.length;
  const needy = quotas.filter(({ least, met, fulfils }) => {
    const need = least - met - ahead.filter((one) => fulfils[one]).length;
    if (need <= 0 || !open.some((one) => fulfils[one])) return false;
    places -= need;
    return true;
  });
  return needy.length && places <= 0 ? needy : null;
}

/** At most so many items of a list share a value of a field; an item is looked at once it would be chosen. */
class Cap {
  full = new Set();
  #counts = new Map();

  constructor({ most, tensor }, rows, tensors) {
    const starts = tensors[`${tensor}.starts`].data;
    const values = tensors[`${tensor}.values`].data;
    this.most = most;
    this.valuesOf = (candidate) => values.subarray(starts[rows[candidate]], starts[rows[candidate] + 1]);
  }

  count(candidate) {
    for (const value of this.valuesOf(candidate)) this.#counts.set(value, (this.#counts.get(value) ?? 0) + 1);
  }

  keepsOut(candidate) {
    const kept = this.valuesOf(candidate).some((value) => (this.#counts.get(value) ?? 0) >= this.most);
    if (kept) this.full.add(candidate);
    return kept;
  }
}
