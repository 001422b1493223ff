'use strict';
// The sockets that memunit passes: sd_listen_fds(3), and in MEMUNIT_LISTEN the name and the address of each. The address
// is told because Node shows that of a descriptor only once it serves on it.

const { fstatSync } = require('fs');

const FIRST = 3;
const WILDCARDS = new Set(['', '::', '0.0.0.0', '[::]']);

class Unusable extends Error {}

class Inherited {
  constructor(fd, { name, address }) {
    this.fd = fd;
    this.name = name;
    this.address = address;
    this.taken = false;
    this.path = /^[/@]/.test(address) ? address : undefined;
    if (this.path === undefined) {
      const colon = address.lastIndexOf(':');
      this.host = address.slice(0, colon).replace(/^\[|\]$/g, '');
      this.port = Number(address.slice(colon + 1));
    }
  }

  toString() {
    return `${this.address} (${this.name})`;
  }

  // Whether a server that asks for `host` may mean this one. A name other than localhost is not resolved here.
  reachedBy(host) {
    if (host === undefined || WILDCARDS.has(host) || WILDCARDS.has(this.host)) return true;
    if (host === 'localhost') return this.host === '::1' || this.host.startsWith('127.');
    return host.replace(/^\[|\]$/g, '') === this.host;
  }
}

// All that the environment tells of, whether or not this process has the descriptors.
function describe(environment) {
  const listed = JSON.parse(environment.MEMUNIT_LISTEN || '[]');
  return listed.map((each, place) => new Inherited(FIRST + place, each));
}

// What was passed to this very process. Takes LISTEN_* away, so that no child of the app takes it for its own.
// `wrapped` is the pid that was meant, where a program between memunit and Node has kept the sockets open.
function take(environment) {
  const { LISTEN_PID: meant, LISTEN_FDS: count } = environment;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name];
  if (meant !== String(process.pid)) return { own: false, wrapped: meant, sockets: [] };
  const sockets = describe(environment);
  if (sockets.length !== Number(count)) {
    throw new Unusable(`LISTEN_FDS=${count}, but MEMUNIT_LISTEN tells of ${sockets.length}`);
  }
  for (const socket of sockets) {
    if (!isSocket(socket.fd)) throw new Unusable(`descriptor ${socket.fd}, ${socket}, is not open`);
  }
  return { own: true, sockets };
}

function isSocket(fd) {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false;
  }
}

// Those of `sockets` that a server means by what it would listen on, { port, host, path }. With one there is no
// question; with several it is the name that says it (FileDescriptorName=), then the port, then the path.
function meant(sockets, { port, host, path }) {
  if (sockets.length <= 1) return sockets;
  const word = String(path !== undefined ? path : port);
  const named = sockets.filter((each) => each.name === word);
  if (named.length > 0) return named;
  if (path !== undefined) return sockets.filter((each) => each.path === path.replace(/^\0/, '@'));
  const there = sockets.filter((each) => each.port === Number(port));
  const reached = there.filter((each) => each.reachedBy(host));
  return reached.length > 0 ? reached : there;
}

module.exports = { Unusable, describe, meant, take };
