'use strict';
// The end of HTTP/2 connections: RFC 9113, 6.8. A first GOAWAY refuses nothing; when its client has seen it, which the
// answer to a ping tells, nothing new can be on its way, and the session closes when its streams have ended.

const MOST_STREAMS = 2 ** 31 - 1;
const NO_ERROR = 0;
const PING = 5000; // ms to wait for a client that answers no ping

class Http2 {
  constructor(server) {
    this._sessions = new Set();
    this._draining = false;
    server.on('session', (session) => {
      this._sessions.add(session);
      session.on('close', () => this._sessions.delete(session));
      if (this._draining) sayGoodbye(session);
    });
  }

  look() {}

  drain() {
    this._draining = true;
    for (const session of this._sessions) sayGoodbye(session);
  }

  drained() {}

  end() {
    for (const session of this._sessions) if (!session.closed) session.close();
  }

  cut() {
    for (const session of this._sessions) session.destroy();
  }
}

function sayGoodbye(session) {
  if (session.closed || session.destroyed) return;
  const close = () => {
    clearTimeout(timer);
    if (!session.closed && !session.destroyed) session.close();
  };
  const timer = setTimeout(close, PING).unref();
  session.goaway(NO_ERROR, MOST_STREAMS);
  if (!session.ping(close)) close();
}

module.exports = { Http2 };
