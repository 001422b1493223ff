'use strict';
// A process that a cluster-mode app has forked: its primary, the worker, has the inherited sockets and hands them on.

const cluster = require('cluster');
const inherited = require('./inherited.cjs');
const listening = require('./listening.cjs');
const { Servers } = require('./servers.cjs');
const stopping = require('./stopping.cjs');

const LOOK = 1000; // ms between looks at what has closed
const PRIMARY = 1000; // ms for a primary that may be busy

function start(sockets) {
  if (sockets.length === 0) return;
  const servers = new Servers();
  listening.replace(sockets, inherited.meant, {
    onTaken: (server, taken, front) => servers.add(server, front),
    onListening: () => {},
    held: () => process.env.MEMUNIT_STOPPING === '1',
  });
  const stop = stopping.onTerm({
    begin() {},
    drain: (bounds) => servers.drain(bounds),
    leave() {
      servers.cut();
      return disconnected();
    },
    say() {},
  });
  // One that has closed its server serves nobody, and its primary is not told before it ends.
  const look = () => servers.closed() && stop();
  servers.onClosed(look);
  setInterval(() => {
    servers.look();
    look();
  }, LOOK).unref();
}

// Tells the primary that this end is no accident (exitedAfterDisconnect), and waits until it has heard it.
function disconnected() {
  return new Promise((resolve) => {
    if (!process.connected) {
      resolve();
      return;
    }
    process.once('disconnect', resolve);
    setTimeout(resolve, PRIMARY).unref();
    cluster.worker.disconnect();
  });
}

module.exports = { start };
