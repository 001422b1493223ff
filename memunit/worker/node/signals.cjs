'use strict';
// Listeners of ours for signals whose default action ends or stops the process: an app does not take them away. Without
// a name process.removeAllListeners() takes Node's own listeners as well, by which process.on() has a signal handled.

const NODES = ['newListener', 'removeListener'].map((event) => [event, process.listeners(event)]);
const held = new Map(); // signal -> our listener

function hold(signal, listener) {
  if (held.size === 0) process.on('removeListener', removed);
  held.set(signal, listener);
  process.on(signal, listener);
}

function release(signal) {
  const listener = held.get(signal);
  held.delete(signal);
  process.removeListener(signal, listener);
}

// At once, for the signal may come before the next tick; and then again, for what is added meanwhile goes with the rest.
function removed(event, listener) {
  if (held.get(event) !== listener) return;
  restore();
  process.nextTick(restore);
}

function restore() {
  const ours = [...held].map(([signal, listener]) => [signal, [listener]]);
  for (const [event, listeners] of [...NODES, ['removeListener', [removed]], ...ours]) {
    for (const listener of listeners) {
      if (!process.listeners(event).includes(listener)) process.on(event, listener);
    }
  }
}

module.exports = { hold, release };
