'use strict';
// Giving memory back when the master asks for it: a byte in the FIFO of MEMORY_PRESSURE_WATCH
// (https://systemd.io/MEMORY_PRESSURE). The app hears 'memunit:give-back' of `process` first, to empty its caches; then
// V8 collects, if --expose-gc lets anybody ask for that.

const fs = require('fs');
const net = require('net');

// A collection holds up the event loop. It may always take so many milliseconds, and more out of an allowance that grows
// by a two-thousandth of the time: a delay that is rarer than one in a thousand is in no 99.9th percentile.
const HARMLESS = 10;
const FIRST = 30;
const MOST = 250;
const SHARE = 1 / 2000;
// Milliseconds for each byte of the heap in use, until it is known of this process.
const PER_BYTE = 0.25e-6;

class Giver {
  constructor({ collect = global.gc, now = () => performance.now(), used = () => process.memoryUsage().heapUsed } = {}) {
    this._collect = collect;
    this._now = now;
    this._used = used;
    this._left = FIRST;
    this._at = now();
    this._perByte = PER_BYTE;
  }

  give() {
    process.emit('memunit:give-back');
    if (typeof this._collect !== 'function') return;
    const used = this._used();
    const begun = this._now();
    this._left = Math.min(MOST, this._left + (begun - this._at) * SHARE);
    this._at = begun;
    if (used * this._perByte > Math.max(HARMLESS, this._left)) return;
    this._collect();
    const took = this._now() - begun;
    this._left -= took;
    this._perByte = (this._perByte + took / used) / 2;
  }
}

// Takes the variable away, so that no child of the app reads what is for this process. What is no FIFO is not ours.
function take(environment) {
  const path = environment.MEMORY_PRESSURE_WATCH;
  try {
    if (!path || !fs.statSync(path).isFIFO()) return undefined;
  } catch {
    return undefined;
  }
  delete environment.MEMORY_PRESSURE_WATCH;
  return path;
}

// Waits for the question, and keeps no process alive for that. When the master was killed, its successor opens the other
// end of the same FIFO.
function watch(path, giver = new Giver()) {
  let fd;
  try {
    fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch {
    return;
  }
  const pipe = new net.Socket({ fd, readable: true, writable: false });
  pipe.unref();
  pipe.on('data', () => setImmediate(() => giver.give()));
  pipe.on('error', () => {});
  pipe.on('close', () => watch(path, giver));
}

module.exports = { Giver, take, watch };
