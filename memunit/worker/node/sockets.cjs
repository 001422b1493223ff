'use strict';
// The open connections of a server, for its drain. That one has closed is seen when the list has grown by half, or is
// read: to listen for the end of each connection would cost every one of them more than all else here.

const SPARE = 32;

class Sockets {
  constructor() {
    this._all = new Set();
    this._most = SPARE;
  }

  add(socket) {
    this._all.add(socket);
    if (this._all.size > this._most) this.sweep();
  }

  delete(socket) {
    this._all.delete(socket);
  }

  // Forgets those that have closed, so that what belongs to them can be freed.
  sweep() {
    for (const socket of this._all) if (socket.destroyed) this._all.delete(socket);
    this._most = this._all.size * 1.5 + SPARE;
  }

  [Symbol.iterator]() {
    this.sweep();
    return this._all.values();
  }
}

module.exports = { Sockets };
