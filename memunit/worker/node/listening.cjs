'use strict';
// server.listen() takes the inherited socket. listen() is replaced because no public interface gives a server another
// address than the one that the app says; for a descriptor, listen({ fd }) is that interface, and it is what is called.

const net = require('net');

// listen(2) is called again on the socket that all workers share: the kernel caps it at net.core.somaxconn, and Node's
// own 511 would shorten the queue for everybody.
const BACKLOG = 2 ** 31 - 1;

const native = net.Server.prototype.listen;

// Has listen() choose among `sockets` (inherited.cjs). `onTaken(server, taken)` is called as soon as a server has taken
// some, and `onListening(taken)` once it listens there. While `held()`, a server that means one is never told so.
function replace(sockets, choose, { onTaken, onListening, held = () => false }) {
  net.Server.prototype.listen = function listen(...args) {
    const own = sockets.find((each) => args[0] && each.fd === args[0].fd); // by an app that knows of sd_listen_fds(3)
    const wanted = own ? understand([own.port || own.path, ...args.slice(1)]) : understand(args);
    if (wanted === undefined || this.listening) return native.apply(this, args);
    const meant = own ? [own] : choose(sockets, wanted);
    const taken = meant.filter((each) => !each.taken);
    if (taken.length === 0) {
      // A path may be the process's own, and a taken one is refused by the kernel. A port is the same in all workers.
      if (wanted.path !== undefined && meant.length > 0 && meant.every((each) => each.path !== wanted.path)) {
        return native.apply(this, args);
      }
      fail(this, refusal(sockets, meant, wanted));
      return this;
    }
    if (held()) return this;
    if (wanted.callback !== undefined) this.once('listening', wanted.callback);
    for (const each of taken) {
      each.taken = true;
      each.server = this;
    }
    onTaken(this, taken);
    const [first, ...others] = taken;
    if (first.path !== undefined) nameAddress(this, first.path);
    this.once('listening', () => {
      for (const each of taken) each.served = true;
      for (const each of others) serveToo(this, each, onTaken);
      onListening(taken);
    });
    return native.call(this, { fd: first.fd, signal: wanted.signal }, BACKLOG);
  };
}

// In a thread: its server would have to be drained from the main one, where the signals arrive.
function refuse(sockets) {
  if (sockets.length === 0) return;
  net.Server.prototype.listen = function listen(...args) {
    if (understand(args) === undefined) return native.apply(this, args);
    const text = "a server in a worker thread can't take what memunit has passed; listen in the main thread";
    fail(this, problem('EADDRNOTAVAIL', text));
    return this;
  };
}

// What these arguments of listen() would listen on, if it is the app's public address; undefined where it is not: a
// descriptor or a handle, a port of the kernel's choice (0), a port that each worker may have (reusePort), a path with
// the pid in it; and what Node is to refuse in its own words.
function understand(args) {
  const [first, second] = args;
  const last = args[args.length - 1];
  const callback = typeof last === 'function' ? last : undefined;
  let { port, host, path, signal } = {};
  if (first !== null && typeof first === 'object') {
    if (first._handle || first.handle || typeof first.fd === 'number' || first.reusePort) return undefined;
    ({ port, host, path, signal } = first);
    if (port === undefined && path === undefined && !('port' in first)) return undefined;
  } else if (typeof first === 'string' && !isNumber(first)) {
    path = first;
  } else if (first !== callback) {
    port = first;
    host = typeof second === 'string' ? second : undefined;
  }
  if (port === undefined || port === null || port === '') port = undefined;
  else if (!isNumber(port) || Number(port) === 0) return undefined;
  if (port !== undefined) path = undefined;
  else if (path !== undefined && (typeof path !== 'string' || path.includes(String(process.pid)))) return undefined;
  if (!host) host = undefined;
  return { port, host, path, signal, callback };
}

function isNumber(value) {
  if (typeof value !== 'number' && typeof value !== 'string') return false;
  const number = Number(value);
  return Number.isInteger(number) && number >= 0 && number < 65536;
}

function refusal(sockets, meant, wanted) {
  const where = wanted.path || [wanted.host, wanted.port].filter((each) => each !== undefined).join(':') || 'a port';
  const there = sockets.join(', ');
  if (meant.length === 0) {
    const text = `no inherited socket is for ${where}: there are ${there}. Listen on one of these, or add it to the .socket unit`;
    return problem('EADDRNOTAVAIL', text);
  }
  if (meant.every((each) => each.served && !each.server.listening)) {
    const text =
      `${where} can't be listened on again: the app has closed the server that had taken ${meant.join(', ')}, and a ` +
      'descriptor that is closed is gone. Leave the server open; memunit puts another worker in the place of this one';
    return problem('EADDRNOTAVAIL', text);
  }
  const text =
    `${where} can't be listened on: ${meant.join(', ')} is what memunit has passed, and a server has taken it already. ` +
    'Each further address has to be in the .socket unit (or a --listen): all workers would want to bind it';
  return problem('EADDRINUSE', text);
}

function problem(code, text) {
  return Object.assign(new Error(`memunit: ${text}`), { code, syscall: 'listen' });
}

// As Node tells of an address in use: by an event, when the caller has had time to listen for it.
function fail(server, error) {
  process.nextTick(() => server.emit('error', error));
}

// Node knows no address of a Unix socket that it has as a descriptor: address() would be null, and frameworks read it.
function nameAddress(server, path) {
  server.address = () => (server.listening ? path : null);
}

// A server has one listening handle. What arrives on another socket of the same service is handed to it by the event
// that Node documents for that: 'connection' may be emitted to inject one.
function serveToo(server, socket, onTaken) {
  const options = { allowHalfOpen: server.allowHalfOpen, noDelay: true };
  const extra = net.createServer(options, (connection) => server.emit('connection', connection));
  extra.on('error', (error) => server.emit('error', error));
  onTaken(extra, [socket], server);
  native.call(extra, { fd: socket.fd }, BACKLOG);
}

module.exports = { refuse, replace };
