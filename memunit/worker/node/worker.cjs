'use strict';
// The worker: READY=1 once its servers listen on all that was passed, pings from the event loop, and its end.

const cluster = require('cluster');
const boards = require('./board.cjs');
const giving = require('./giving.cjs');
const inherited = require('./inherited.cjs');
const listening = require('./listening.cjs');
const { Notify } = require('./notify.cjs');
const { Servers } = require('./servers.cjs');
const { Siblings } = require('./siblings.cjs');
const signals = require('./signals.cjs');
const stopping = require('./stopping.cjs');
const witness = require('./witness.cjs');

const LOOK = 1000; // ms between looks at the servers
// Sent to all of a unit by `systemctl kill -s HUP`; their default action would end or stop the worker.
const IGNORED = ['SIGHUP', 'SIGTTIN', 'SIGTTOU', 'SIGUSR2'];

function start(sockets) {
  const notify = new Notify(process.env);
  const board = boards.take(process.env);
  const servers = new Servers();
  const watched = giving.take(process.env);
  if (watched) giving.watch(watched);
  const profile = witness.take(process.env);
  if (profile) witness.begin(profile);
  const siblings = new Siblings(cluster);
  const awaited = new Set(sockets);

  function arrived(taken) {
    for (const each of taken) awaited.delete(each);
    if (awaited.size > 0) {
      notify.status(`waiting until the app listens on ${[...awaited].join(' and ')}, too`);
    } else if (!ready) {
      ready = true;
      board.serving();
      notify.send('READY=1', 'STATUS=serving');
      watch(notify, () => {
        servers.look();
        board.look();
        look();
      });
    }
  }

  let ready = false;
  let leaving = false;
  let why = '';

  // A descriptor that was closed can't be had again, and clients would wait for a worker that accepts nobody.
  function look() {
    if (!leaving && servers.closed() !== undefined) end('the app has closed its server');
  }

  function end(reason) {
    if (leaving) return;
    why = `${reason}, so this worker accepts nobody at ${sockets.join(', ')}; `;
    stop();
  }

  servers.onClosed(look);
  siblings.onGone = () => end('no process of its cluster that has served is left');
  notify.status(`waiting until the app listens on ${sockets.join(' and ')}`);
  listening.replace(sockets, inherited.meant, {
    onTaken: (server, taken, front) => servers.add(server, front),
    onListening: arrived,
  });
  siblings.onListening = (fd) => arrived(sockets.filter((each) => each.fd === fd));

  for (const name of IGNORED) signals.hold(name, () => {});
  process.on('uncaughtExceptionMonitor', (error, origin) => {
    const before = notify.said;
    const failure = `${origin}: ${inOneLine(error)}`;
    notify.status(failure);
    // An app that handles it goes on, and what ends it later is something else.
    setImmediate(() => {
      if (notify.said === failure) notify.status(before);
    }).unref();
  });
  const stop = stopping.onTerm({
    begin() {
      leaving = true;
      board.draining();
      notify.send('STOPPING=1', `STATUS=${why}finishing open requests`);
      siblings.stop();
    },
    drain: (bounds) => Promise.all([servers.drain(bounds), siblings.ended()]),
    leave: () => servers.cut(),
    // In one piece: the loop does not turn meanwhile.
    examine: (most) => board.examine(notify.watchdog > 0 ? Math.min(most, notify.watchdog / 2) : most),
    say: (text) => notify.status(why + text),
  });
}

function watch(notify, look) {
  setInterval(look, LOOK).unref();
  if (!(notify.watchdog > 0)) return;
  notify.ping();
  setInterval(() => notify.ping(), Math.max(notify.watchdog / 3, 10)).unref();
}

// The stack of a SyntaxError begins with its place, and what is wrong stands five lines below.
function inOneLine(error) {
  if (!error || !error.stack) return String(error);
  const first = String(error.stack).split('\n')[0];
  const text = String(error).split('\n')[0];
  return first.includes(text) ? first : `${text} (${first})`;
}

module.exports = { start };
