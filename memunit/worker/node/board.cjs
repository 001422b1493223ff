'use strict';
// The page of this worker, on which stands what it has in work: see memunit/core/board.py, the master's half, and
// memunit/worker/work.py, which does the same for Python. Node can't map a file, so each request costs a write(2) before
// the app is called: what blocks the loop from then on has been noted.

const diagnostics = require('diagnostics_channel');
const { closeSync, readSync, writeSync } = require('fs');
const heap = require('./heap.cjs');

const MAGIC = 'memunitW';
const NUMBERS = [1, 0x15000, 128, 64, 128, 128]; // version, size, routes, slots, bytes of a name and of a slot
const [, , ROUTES, SLOTS, NAME_SIZE, SLOT_SIZE] = NUMBERS;
const ORDER = 64;
const STATE = 128;
const UNLISTED = 192;
const COUNTS = 0x1000;
const IN_WORK = 0x2000;
const NAMES = 0x4000;
const REPORT = 0x8000;
const MOST_REPORT = 48 * 1024;
const UNKNOWN = 0xffffffff;
const LONGEST = 104;
const LONGEST_NAME = 120;
const MOST_PATHS = 512;
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const NO_ROUTE = new Set([400, 404, 405, 410, 501]);
// memunit/core/paths.py has the same.
const VARIABLE = new RegExp(
  '^(?:[0-9]+|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{16,}' +
    '|(?=[^/]*[0-9])[0-9a-fA-F]{8,}|(?=[^/]*[0-9])[^/]{20,}|[^/]{40,})$'
);
const SERVING = 1;
const DRAINING = 2;
const EXAMINING = 3;
const EXAMINED = 4;
const GAVE_UP = 5;

class Board {
  constructor(fd) {
    this._fd = fd;
    this._slots = Buffer.alloc(SLOTS * SLOT_SIZE);
    this._counts = Buffer.alloc((ROUTES + 1) * 8);
    this._done = new Array(ROUTES + 1).fill(0);
    this._free = Array.from({ length: SLOTS }, (_, index) => SLOTS - 1 - index);
    this._used = 0; // slots that were ever in use: so much is written
    this._held = new Map(); // response -> its slot, -1 for none
    this._places = new Map(); // name of a route -> its place
    this._paths = new Map(); // "GET /path" as it came -> the place of its route
    this._unlisted = 0;
    this._dirty = false;
    this._due = false;
    this._start = undefined; // what V8 told when the worker became ready
    diagnostics.channel('http.server.request.start').subscribe(({ request, response }) => this._begin(request, response));
    diagnostics.channel('http.server.response.finish').subscribe(({ request, response }) => this._end(request, response));
  }

  serving() {
    this._start = heap.look();
    this._write(number(SERVING), STATE);
  }

  draining() {
    this._write(number(DRAINING), STATE);
  }

  // After the last request, if the master has ordered it before its signal; `most` milliseconds at most.
  examine(most) {
    const budget = Math.min(this._ordered(), most);
    if (!(budget > 0) || this._start === undefined) return;
    this._write(number(EXAMINING), STATE);
    try {
      const report = Buffer.from(JSON.stringify({ version: 1, v8: heap.examine(this._start, budget) }));
      if (report.length > MOST_REPORT) throw new RangeError('the report is too long');
      this._write(report, REPORT + 4);
      this._write(number(report.length), REPORT);
      this._write(number(EXAMINED), STATE);
    } catch {
      this._write(number(GAVE_UP), STATE);
    }
  }

  // Milliseconds; 0 where it is not to be examined.
  _ordered() {
    const order = Buffer.alloc(8);
    try {
      readSync(this._fd, order, 0, order.length, ORDER);
    } catch {
      return 0;
    }
    return order.readUInt32LE(4);
  }

  // Called once a second: an answer that is broken off never finishes.
  look() {
    for (const response of this._held.keys()) if (response.destroyed || response.closed) this._end(response.req, response);
    this._flush();
  }

  _begin(request, response) {
    const method = request.method;
    const path = withoutQuery(request.url);
    const place = this._paths.get(`${method} ${path}`);
    const slot = this._free.length > 0 ? this._free.pop() : -1;
    this._held.set(response, slot);
    if (slot < 0) {
      this._unlisted += 1;
      return;
    }
    const at = slot * SLOT_SIZE;
    this._slots.writeBigUInt64LE(process.hrtime.bigint(), at);
    this._slots.writeUInt32LE(place === undefined ? UNKNOWN : place, at + 8);
    if (place === undefined) {
      this._slots.fill(0, at + 12, at + SLOT_SIZE);
      this._slots.latin1Write(method, at + 12, 12);
      this._slots.latin1Write(path, at + 24, LONGEST);
    }
    if (slot >= this._used) this._used = slot + 1;
    this._write(this._slots, IN_WORK, this._used * SLOT_SIZE);
    this._dirty = false;
  }

  _end(request, response) {
    const slot = this._held.get(response);
    if (slot === undefined) return;
    this._held.delete(response);
    if (slot < 0) {
      this._unlisted -= 1;
    } else {
      this._slots.writeBigUInt64LE(0n, slot * SLOT_SIZE);
      this._free.push(slot);
    }
    this._done[this._placeOf(request, response)] += 1;
    this._dirty = true;
    if (this._due) return;
    this._due = true;
    setImmediate(() => {
      this._due = false;
      if (this._dirty) this._write(this._slots, IN_WORK, this._used * SLOT_SIZE);
      this._dirty = false;
    }).unref();
  }

  _flush() {
    this._done.forEach((count, place) => this._counts.writeBigUInt64LE(BigInt(count), place * 8));
    this._write(this._counts, COUNTS);
    const unlisted = Buffer.alloc(8);
    unlisted.writeBigUInt64LE(BigInt(this._unlisted));
    this._write(unlisted, UNLISTED);
  }

  // Of an app's request when it is done: by then Express has found the route.
  _placeOf(request, response) {
    const method = METHODS.has(request.method) ? request.method : 'OTHER';
    const path = withoutQuery(request.originalUrl || request.url);
    const key = `${request.method} ${path}`;
    const known = this._paths.get(key);
    if (known !== undefined) return known;
    const named = routeOf(request);
    if (named === undefined && NO_ROUTE.has(response.statusCode)) return ROUTES;
    const place = this._name(`${method} ${named === undefined ? fold(path) : named}`.slice(0, LONGEST_NAME));
    if (this._paths.size >= MOST_PATHS) this._paths.clear();
    if (key.length <= 2 * LONGEST) this._paths.set(key, place);
    return place;
  }

  _name(name) {
    const known = this._places.get(name);
    if (known !== undefined) return known;
    const place = this._places.size;
    if (place >= ROUTES) return ROUTES;
    this._places.set(name, place);
    this._write(Buffer.from(name).subarray(0, LONGEST_NAME), NAMES + place * NAME_SIZE);
    return place;
  }

  // A descriptor that the app has closed is no reason to answer nobody.
  _write(buffer, position, length = buffer.length) {
    if (this._fd < 0) return;
    try {
      writeSync(this._fd, buffer, 0, length, position);
    } catch {
      this._fd = -1;
    }
  }
}

function number(value) {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function withoutQuery(url) {
  const end = url.indexOf('?');
  return end < 0 ? url : url.slice(0, end);
}

function fold(path) {
  return path
    .split('/')
    .map((segment) => (VARIABLE.test(segment) ? '{}' : segment))
    .join('/');
}

function routeOf(request) {
  try {
    const { route, baseUrl } = request;
    return route && typeof route.path === 'string' ? `${fold(baseUrl || '')}${route.path}` : undefined;
  } catch {
    return undefined;
  }
}

// What stands in for a page where there is none, or one of another version.
const NONE = { serving() {}, draining() {}, examine() {}, look() {} };

// The page whose descriptor is in MEMUNIT_BOARD, which is taken out of `environment`.
function take(environment) {
  const text = environment.MEMUNIT_BOARD || '';
  delete environment.MEMUNIT_BOARD;
  if (!/^[0-9]+$/.test(text)) return NONE;
  const fd = Number(text);
  const head = Buffer.alloc(32);
  try {
    readSync(fd, head, 0, head.length, 0);
  } catch {
    return NONE;
  }
  const same = NUMBERS.every((value, place) => head.readUInt32LE(8 + 4 * place) === value);
  if (same && head.latin1Slice(0, 8) === MAGIC) return new Board(fd);
  closeSync(fd);
  return NONE;
}

module.exports = { take, fold };
