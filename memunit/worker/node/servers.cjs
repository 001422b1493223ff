'use strict';
// The servers that have taken an inherited socket, and what their clients see of the end: nobody is cut off.

const net = require('net');
const { Http1 } = require('./http1.cjs');
const { Http2 } = require('./http2.cjs');
const { Sockets } = require('./sockets.cjs');

const SERVED = Symbol('whether it has listened');

class Servers {
  constructor() {
    this._servers = new Set();
    this._speaking = new Map(); // server -> what knows the protocol of its connections
    this._closed = () => {};
  }

  // Has `closed` called when the app closes a server, which may still have connections.
  onClosed(closed) {
    this._closed = closed;
  }

  // One that the app has closed, if there is one. Its `close` event comes only with the end of its last connection.
  closed() {
    return [...this._servers].find((server) => server[SERVED] && !server.listening);
  }

  // `front` is the server that gets the connections of this one, if it is another.
  add(server, front = server) {
    this._servers.add(server);
    server.once('listening', () => {
      server[SERVED] = true;
    });
    server.once('close', () => this._closed());
    if (front !== server) return;
    const kinds = [];
    if (isHttp2(server)) kinds.push(new Http2(server));
    if (isHttp1(server)) kinds.push(new Http1(server, { secure: isSecure(server) }));
    if (kinds.length === 0) kinds.push(new Plain(server));
    this._speaking.set(server, kinds);
  }

  // Called once a second: nothing is kept in memory for a connection that has closed before that.
  look() {
    for (const kinds of this._speaking.values()) for (const kind of kinds) kind.look();
  }

  // Resolves when the last connection has ended. From `end` on, in milliseconds, what does not end by itself is ended.
  async drain({ end }) {
    const closed = [...this._servers].map(stopListening);
    const kinds = [...this._speaking.values()].flat();
    for (const kind of kinds) kind.drain();
    const timer = end === Infinity ? undefined : setTimeout(() => kinds.forEach((kind) => kind.end()), end).unref();
    await Promise.all(closed);
    for (const kind of kinds) kind.drained();
    clearTimeout(timer);
  }

  // What is still open is cut off, and a close() of the app that comes later finds nothing wrong.
  cut() {
    for (const kind of [...this._speaking.values()].flat()) kind.cut();
    for (const server of this._servers) {
      server.close = function (callback) {
        if (typeof callback === 'function') process.nextTick(callback);
        return this;
      };
    }
  }
}

// By net's own close(): http's, from Node 19 on, ends idle connections at once, under a request on its way. The handle
// is this process's: the socket goes on listening for all others that have it.
function stopListening(server) {
  const where = server.address();
  // A framework that is still starting reads it: Fastify looks a name up between its listen() and its address().
  if (where !== null) server.address = () => where;
  return new Promise((resolve) => {
    net.Server.prototype.close.call(server, (error) => {
      if (!error) return resolve();
      // The app has closed it before.
      return server.getConnections((_, count) => (count > 0 ? server.once('close', resolve) : resolve()));
    });
  });
}

// By what they can do, for http, https and http2 need not be loaded to tell that a server is none of theirs.
function isHttp1(server) {
  return typeof server.closeIdleConnections === 'function' || (isHttp2(server) && isSecure(server));
}

function isHttp2(server) {
  return typeof server.updateSettings === 'function';
}

function isSecure(server) {
  return typeof server.setSecureContext === 'function';
}

// A protocol that nobody here knows: a connection ends when the app or the client ends it.
class Plain {
  constructor(server) {
    this._open = new Sockets();
    server.on('connection', (socket) => this._open.add(socket));
  }

  look() {
    this._open.sweep();
  }

  drain() {}

  drained() {}

  end() {
    for (const socket of this._open) socket.end();
  }

  cut() {
    for (const socket of this._open) socket.destroy();
  }
}

module.exports = { Servers };
