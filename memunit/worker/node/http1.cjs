'use strict';
// The end of HTTP/1.1 connections: answers say `Connection: close`, and a connection that waits for a request is closed
// when its keep-alive time is over. Before a drain all that this costs is one assignment a request, and to note down each
// connection.

const diagnostics = require('diagnostics_channel');
const { Sockets } = require('./sockets.cjs');
const { WebSockets } = require('./websocket.cjs');

const LAST = Symbol('the last response on this connection');
const TOLD = Symbol('the response on this connection that says close');
const KEEP_ALIVE = 5000; // ms, Node's default, for an app that has set none
const HEAD = 10000; // ms that a client has for a head which it has begun
const TIMEOUT = 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n';

let watching = false;

function watch() {
  if (watching) return;
  watching = true;
  diagnostics.channel('http.server.request.start').subscribe(({ response, socket }) => {
    socket[LAST] = response;
  });
}

class Http1 {
  constructor(server, { secure }) {
    this._server = server;
    this._open = new Sockets();
    this._shaking = new Sockets(); // what has not finished its TLS handshake
    this._timers = [];
    this._webSockets = new WebSockets(server);
    watch();
    if (!secure) {
      server.on('connection', (socket) => this._open.add(socket));
      return;
    }
    server.on('connection', (socket) => this._shaking.add(socket));
    server.on('secureConnection', (socket) => {
      this._shaking.delete(socket._parent); // the TCP connection under it, if Node still calls it so
      if (socket.alpnProtocol !== 'h2') this._open.add(socket);
    });
  }

  // Called once a second.
  look() {
    this._open.sweep();
    this._shaking.sweep();
  }

  drain() {
    takeOver(this._server);
    this._webSockets.drain();
    for (const socket of this._open) {
      if (this._webSockets.has(socket)) continue;
      tell(socket[LAST]);
      if (isIdle(socket)) socket.setTimeout(0); // Node's timer would not look whether a request has come
    }
    const time = this._server.keepAliveTimeout || KEEP_ALIVE;
    this._timers = [
      setInterval(() => this._closeIdle(), Math.min(time, 2 ** 31 - 1)).unref(),
      setTimeout(() => this._endHeads(), HEAD).unref(),
    ];
  }

  drained() {
    for (const timer of this._timers) clearInterval(timer);
    this._webSockets.drained();
  }

  // After the next poll: what has arrived by then has been read, and its connection is idle no more.
  _closeIdle() {
    setImmediate(() => {
      const own = this._server.closeIdleConnections; // an HTTP/2 server of Node 18 that allows HTTP/1.1 has none
      if (own) own.call(this._server);
      for (const socket of [...this._open, ...this._shaking]) {
        if (own ? socket[LAST] === undefined && isIdle(socket) : isIdle(socket)) socket.destroySoon();
      }
    });
  }

  _endHeads() {
    for (const socket of this._open) {
      if (socket[LAST] === undefined && socket.bytesRead > 0 && !this._webSockets.has(socket)) {
        socket.write(TIMEOUT);
        socket.destroySoon();
      }
    }
    for (const socket of this._shaking) socket.destroy();
  }

  // A stream of chunks can be ended; what has a length can't, and may still come to its own end.
  end() {
    this._closeIdle();
    for (const socket of this._open) {
      const response = socket[LAST];
      if (isIdle(socket) || this._webSockets.has(socket)) {
        socket.destroySoon();
      } else if (response && response.headersSent && !response.hasHeader('content-length')) {
        response.on('error', () => {}); // the app may write on
        response.end();
        response.once('finish', () => socket.destroySoon());
      }
    }
  }

  cut() {
    for (const socket of [...this._open, ...this._shaking]) socket.destroy();
  }
}

function isIdle(socket) {
  const response = socket[LAST];
  return response === undefined ? socket.bytesRead === 0 : response.writableFinished;
}

// Each request is handed to the app one tick later: by then all that came in the same segment has been parsed, and it is
// known which answer is the last of its connection.
function takeOver(server) {
  const listeners = server.rawListeners('request');
  server.removeAllListeners('request');
  server.on('request', (request, response) => {
    process.nextTick(() => {
      if (request.httpVersionMajor < 2) tell(request.socket[LAST]);
      for (const listener of listeners) listener.call(server, request, response);
    });
  });
}

// Has an answer say that its connection ends; not while the request's own body is on its way, for to close over unread
// bytes is to reset the connection, which can cost the client the answer too.
function tell(response) {
  if (!response || response.headersSent) return;
  const { req: request } = response;
  const { socket } = request;
  const before = socket[TOLD];
  // Another has been pipelined behind it. Not removeHeader(), which for Node 18 means close as well.
  if (before && before !== response && !before.headersSent) before.setHeader('Connection', 'keep-alive');
  if (request.complete) {
    socket[TOLD] = response;
    response.setHeader('Connection', 'close');
  } else {
    request.prependOnceListener('end', () => {
      if (socket[LAST] === response) tell(response);
    });
  }
}

module.exports = { Http1 };
