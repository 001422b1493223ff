'use strict';
// The end of a WebSocket, whatever library serves it: a close frame with 1001 (RFC 6455, 5.5.1 and 7.4.1). Frames are
// whole in each write of a server, and a control frame may stand between any two. The library sees the client's answer.

const GOING_AWAY = Buffer.from([0x88, 0x02, 0x03, 0xe9]);
const ANSWER = 2000; // ms that a client has for its own close frame
const LOOK = 50; // ms between looks at a handshake that is not over yet

class WebSockets {
  constructor(server) {
    this._open = new Map(); // socket -> how much had been written when it asked for the upgrade
    this._draining = false;
    this._timers = new Set();
    const note = (request, socket) => this._note(request, socket);
    // Only beside a listener of the app: without any, Node answers such a request as one of HTTP.
    if (server.listenerCount('upgrade') > 0) server.prependListener('upgrade', note);
    server.on('newListener', (event) => {
      if (event === 'upgrade' && !server.listeners('upgrade').includes(note)) server.prependListener('upgrade', note);
    });
  }

  has(socket) {
    return this._open.has(socket);
  }

  drain() {
    this._draining = true;
    for (const socket of this._open.keys()) this._goAway(socket);
  }

  drained() {
    for (const timer of this._timers) clearTimeout(timer);
  }

  _note(request, socket) {
    if (!/websocket/i.test(request.headers.upgrade || '')) return;
    this._open.set(socket, socket.bytesWritten);
    socket.on('close', () => this._open.delete(socket));
    if (this._draining) this._goAway(socket);
  }

  _goAway(socket) {
    if (!this._open.has(socket)) return;
    if (socket.bytesWritten === this._open.get(socket)) {
      this._later(LOOK, () => this._goAway(socket));
      return;
    }
    if (socket.writable) socket.write(GOING_AWAY);
    this._later(ANSWER, () => socket.destroySoon());
  }

  _later(milliseconds, action) {
    const timer = setTimeout(() => {
      this._timers.delete(timer);
      action();
    }, milliseconds).unref();
    this._timers.add(timer);
  }
}

module.exports = { WebSockets };
