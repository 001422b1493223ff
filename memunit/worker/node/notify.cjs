'use strict';
// sd_notify(3) over MEMUNIT_NOTIFY_FD, a datagram socket that memunit has connected to NOTIFY_SOCKET: Node can't make a
// Unix datagram socket, but each write(2) to one is a datagram, and the kernel adds the writer's pid (SO_PASSCRED).

const { spawn } = require('child_process');
const { writeSync } = require('fs');

const RETRY = 20; // ms; the master's queue is full for as long as it is busy
const LONGEST = 2000; // characters of one assignment, as for a Python worker: a datagram may have 4096 bytes in all

class Notify {
  constructor(environment) {
    const fd = environment.MEMUNIT_NOTIFY_FD;
    delete environment.MEMUNIT_NOTIFY_FD;
    this._fd = fd === undefined ? -1 : Number(fd);
    this._address = environment.NOTIFY_SOCKET;
    this._due = [];
    this.said = ''; // the last status
    this._timer = undefined;
    const { WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = environment;
    // Milliseconds within which the master wants to hear a ping, or 0: sd_watchdog_enabled(3).
    this.watchdog = pid === undefined || pid === String(process.pid) ? Math.floor(Number(usec || 0) / 1000) : 0;
  }

  // Sends them in one datagram, at once or when there is room; in the order in which they came.
  send(...assignments) {
    for (const each of assignments) if (each.startsWith('STATUS=')) this.said = each.slice('STATUS='.length);
    this._due.push(assignments.map(plain).join('\n'));
    this.flush();
  }

  status(text) {
    this.send(`STATUS=${text}`);
  }

  // From the event loop, so that a ping proves that it turns.
  ping() {
    if (!this._due.includes('WATCHDOG=1')) this.send('WATCHDOG=1');
  }

  flush() {
    clearTimeout(this._timer);
    if (this._address === undefined) this._due.length = 0;
    while (this._due.length > 0) {
      try {
        writeSync(this._fd, this._due[0]);
      } catch (error) {
        if (error.code === 'EAGAIN' || error.code === 'ENOBUFS') {
          this._timer = setTimeout(() => this.flush(), RETRY).unref();
          return;
        }
        // The master that made the descriptor is no more: its successor has a socket of its own at the same path.
        speak(this._due[0], this._address);
      }
      this._due.shift();
    }
  }
}

function speak(text, address) {
  const environment = { PATH: process.env.PATH, NOTIFY_SOCKET: address };
  spawn('systemd-notify', text.split('\n'), { env: environment, stdio: 'ignore' })
    .on('error', () => {}) // there is none: nobody can be told
    .unref();
}

// ASCII and one line, as sdnotify and systemd want it.
function plain(assignment) {
  return assignment
    .replace(/\s+/g, ' ')
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, LONGEST);
}

module.exports = { Notify };
