// What the tours of node-redis and ioredis share: how they find their package, and how they print.

import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

/** Packages are not beside these files: NODE_PATH says where, which only `require` reads. */
export const packageOf = createRequire(import.meta.url);

// Waiting for a key to expire ends here, with "still there".
const PATIENCE_MS = 10_000;

export const say = (label, value) => console.log(`${label}: ${text(value)}`);

/** A reply, as all four programs print it. */
function text(value) {
  if (value === null) return "nil";
  if (value instanceof Error) return `error ${value.message.replace(/^ERR /, "")}`;
  if (Array.isArray(value)) return value.map(text).join(" ");
  return String(value);
}

export const errorOf = (promise) => promise.catch((error) => error);

/** Seconds to live, as `about N`, because some may have passed. */
export function about(ttl) {
  const near = [10, 100].find((n) => n - 5 <= ttl && ttl <= n);
  return near === undefined ? ttl : `about ${near}`;
}

/** Waits until a key is not there. */
export async function gone(r, key) {
  const until = Date.now() + PATIENCE_MS;
  while ((await r.get(key)) !== null) {
    if (Date.now() > until) return "still there";
    await sleep(20);
  }
  return "gone";
}

/** The numbers from 0 on, made into something. */
export const times = (count, make) => Array.from({ length: count }, (_, n) => make(n));

/** The keys that are scanned. */
export const scanned = [
  ...times(400, (n) => `fruit:${String(n).padStart(3, "0")}`),
  ...times(100, (n) => `tree:${n}`),
].sort();

/** All that a scan finds, each key once. */
export async function found(scan) {
  const keys = new Set();
  for await (const some of scan) some.forEach((key) => keys.add(key));
  return [...keys].sort();
}

export const isAll = (keys) => Number(keys.join() === scanned.join());
