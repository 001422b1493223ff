'use strict';
// A leaking HTTP server as a memunit worker: it serves on the socket that it inherits as descriptor 3.
// GET / answers "ok PID"; /leak?kb=N keeps N KiB for ever first (64 if not said); /slow?s=F answers after F seconds.

const http = require('http');
const net = require('net');
const { execFile } = require('child_process');

const kept = [];
const connections = new Map(); // socket -> requests in flight
const unanswered = new Set(); // responses that have not ended
let draining = false;

// What a client says must not be able to throw: an exception here ends the worker, and all its requests.
const MOST_KB = 1024 * 1024;
const MOST_SECONDS = 60;
function number(word, most) {
  const value = Number(word);
  return value >= 0 && value <= most ? value : NaN;
}

// Before the worker stops: flush, leave queues, deregister. What requests in flight need has to stay.
async function clean() {
  console.error(`clean: ${process.pid} keeps ${kept.length} blocks`);
}

const server = http.createServer((request, response) => {
  const { socket } = request;
  connections.set(socket, (connections.get(socket) || 0) + 1);
  unanswered.add(response);
  response.on('close', () => {
    unanswered.delete(response);
    if (connections.has(socket)) connections.set(socket, connections.get(socket) - 1);
  });
  if (draining) response.setHeader('Connection', 'close');
  request.resume();

  const [path, query] = request.url.split('?', 2); // not by new URL(), which throws for "//"
  const words = new URLSearchParams(query);
  const answer = () => response.end(`ok ${process.pid}\n`);
  const kb = number(words.get('kb') || 64, MOST_KB);
  const seconds = number(words.get('s') || 1, MOST_SECONDS);
  if (Number.isNaN(kb + seconds)) {
    response.statusCode = 400;
    response.end(`kb: at most ${MOST_KB}; s: at most ${MOST_SECONDS}\n`);
    return;
  }
  if (path === '/leak') kept.push(Buffer.alloc(1024 * kb, 0xa5));
  if (path === '/slow') setTimeout(answer, 1000 * seconds);
  else answer();
});

server.on('connection', (socket) => {
  connections.set(socket, 0);
  socket.on('close', () => connections.delete(socket));
});

async function stop() {
  if (draining) return; // systemd and the master may both ask
  draining = true;
  await clean();
  for (const response of unanswered) {
    if (!response.headersSent) response.setHeader('Connection', 'close');
  }
  // net's close() and not http's, which from Node 19 on closes idle connections at once, under a request on its way.
  net.Server.prototype.close.call(server, () => process.exit(0));
  setTimeout(() => {
    for (const [socket, busy] of connections) if (busy === 0) socket.end();
  }, server.keepAliveTimeout).unref();
}

process.on('SIGTERM', stop);
server.listen({ fd: 3 }, () => {
  // Node has no datagram sockets of the Unix kind, so systemd-notify says it; memunit counts a worker's children as it.
  // Where there is none, ready = "exec" in the instance file and no NOTIFY_SOCKET here.
  if (process.env.NOTIFY_SOCKET) {
    execFile('systemd-notify', ['--ready'], (error) => {
      if (!error) return;
      console.error(`READY=1 could not be said, is systemd-notify installed? ${error.message}`);
      process.exit(1);
    });
  }
});
