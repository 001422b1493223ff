'use strict';
// What V8 tells of this process: at its start, and at the end of its drain, when nobody waits for it any more. Then V8
// collects once, so that garbage is not taken for what the app holds. Numbers and names of V8's types, no value.

const v8 = require('v8');
const vm = require('vm');

const PER_BYTE = 2e-6; // milliseconds that a full collection takes for each byte of the heap; 1.4e-6 was measured
const MOST_TYPES = 24;

function look() {
  const { heapUsed, heapTotal, external, arrayBuffers } = process.memoryUsage();
  const spaces = {};
  for (const { space_name: name, space_used_size: used } of v8.getHeapSpaceStatistics()) spaces[name] = used;
  return { used: heapUsed, total: heapTotal, external, buffers: arrayBuffers, spaces, resources: resources() };
}

// What keeps the event loop alive, by type: sockets, timers, requests of the file system.
function resources() {
  const counts = new Map();
  for (const type of process.getActiveResourcesInfo()) counts.set(type, (counts.get(type) || 0) + 1);
  return Object.fromEntries([...counts].sort((one, other) => other[1] - one[1]).slice(0, MOST_TYPES));
}

// `budget` in milliseconds. Without a collection what comes back has no `live`.
function examine(start, budget) {
  const begun = process.hrtime.bigint();
  const end = look();
  const live = end.used * PER_BYTE <= budget && collect() ? look() : null;
  return { start, end, live, usec: Number((process.hrtime.bigint() - begun) / 1000n) };
}

function collect() {
  const gc = global.gc || own();
  if (typeof gc !== 'function') return false;
  gc();
  return true;
}

// The function that --expose-gc would have given the app; the app does not get it.
function own() {
  try {
    v8.setFlagsFromString('--expose-gc');
    const gc = vm.runInNewContext('gc');
    v8.setFlagsFromString('--no-expose-gc');
    return gc;
  } catch {
    return undefined;
  }
}

module.exports = { look, examine };
